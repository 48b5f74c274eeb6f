package step

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/preflight"
	"github.com/towline/towline/internal/taskdef"
)

// looks are what pre-flight has seen besides what is wrong. It is safe for
// concurrent use.
type looks struct {
	mu     sync.Mutex
	notes  [][]string
	unread []preflight.Unread
	// read is what is there that the task definition names.
	read []string
}

// note keeps a line for the log until everything has been looked at: what is
// found side by side comes in any order.
func (s *Step) note(verb, object string, more ...string) {
	s.looks.mu.Lock()
	defer s.looks.mu.Unlock()
	s.looks.notes = append(s.looks.notes, append([]string{verb, object}, more...))
}

// unread keeps what could not be looked at, for one notice.
func (s *Step) unread(all ...preflight.Unread) {
	s.looks.mu.Lock()
	defer s.looks.mu.Unlock()
	s.looks.unread = append(s.looks.unread, all...)
}

// has keeps what is there that a task definition names, each once.
func (s *Step) has(all ...string) {
	s.looks.mu.Lock()
	defer s.looks.mu.Unlock()
	for _, thing := range all {
		if !slices.Contains(s.looks.read, thing) {
			s.looks.read = append(s.looks.read, thing)
		}
	}
}

// preflight looks at everything that later phases depend on, side by side, so
// that what cannot work fails before the build. It finds everything that is
// wrong at once. A round of requests waits for another only where it has to:
// the uploads and the task definition for the repositories and the service, and
// what the definition names for the definition, but none for an image that is only
// deployed.
func (s *Step) preflight(ctx context.Context) error {
	if err := s.openRegistry(); err != nil {
		return err
	}
	login, targets, images, service := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	var noLogin, noTargets error
	all := []func() error{
		s.inspect,
		func() error { defer close(login); noLogin = s.logIn(ctx); return noLogin },
		func() error { defer close(targets); noTargets = s.findTargets(ctx); return noTargets },
		func() error {
			<-login
			<-targets
			if noLogin == nil { // or a probe would be refused for the same reason
				return s.tryTargets(ctx)
			}
			return nil
		},
		func() error { defer close(images); return s.findImages(ctx) },
		func() error { defer close(service); return s.findServices(ctx) },
		func() error {
			<-targets
			<-service
			return s.checkEditions(ctx, noTargets == nil, images)
		},
	}
	errs := make([]error, len(all))
	var group errgroup.Group
	for i, look := range all {
		group.Go(func() error { errs[i] = look(); return nil })
	}
	_ = group.Wait() // each keeps its own error, so that all are told
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.tellFound()
	s.tellUnread()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return s.createMissing(ctx)
}

// tellFound writes what was found side by side.
func (s *Step) tellFound() {
	for _, svc := range s.services {
		if svc.found != nil {
			s.report.Say("found", "service "+svc.found.Name, "cluster "+svc.found.ClusterName,
				fmt.Sprintf("%d of %d tasks running", svc.found.Running, svc.found.Desired), "task definition "+lastPart(svc.currentARN))
		}
	}
	for _, e := range s.editions {
		if e.begins != "" {
			s.report.Say("found", "task definition "+lastPart(e.begins))
		}
	}
	slices.SortFunc(s.looks.notes, slices.Compare)
	for _, line := range s.looks.notes {
		s.report.Say(line[0], line[1], line[2:]...)
	}
	for i, ref := range s.merged {
		s.report.Say("found", "image "+ref, s.product.platforms[i].String())
	}
	for _, e := range s.editions {
		for _, container := range e.containers {
			s.report.Say("found", "container "+container, "task definition "+e.base.Family())
		}
	}
	for _, svc := range s.services {
		if svc.found != nil {
			s.tellService(svc.found)
		}
	}
}

// tellService tells what is odd about a service.
func (s *Step) tellService(found *deploy.Service) {
	if found.UnderWay != "" {
		s.report.Notice(fmt.Sprintf("Deployment %s of service %s is still under way. A new one takes its place.", found.UnderWay, found.Name))
	}
	if wanted := s.settings.Deployment.Update.DesiredCount; found.Desired == 0 && (wanted == nil || *wanted == 0) {
		s.report.Notice(fmt.Sprintf("Service %s wants 0 tasks, so nothing is started: whether the new tasks work will not show.", found.Name))
	}
}

const notAllowed = " is not allowed"

// tellUnread says, in one notice, what could not be looked at.
func (s *Step) tellUnread() {
	reasons := map[string][]string{}
	for _, u := range s.looks.unread {
		reason := u.Action + notAllowed
		if u.Why != "" {
			reason = u.Action + ": " + u.Why
		}
		if !slices.Contains(reasons[reason], u.What) {
			reasons[reason] = append(reasons[reason], u.What)
		}
	}
	if len(reasons) == 0 {
		return
	}
	var parts []string
	for reason, what := range reasons {
		slices.Sort(what)
		parts = append(parts, strings.Join(what, ", ")+" ("+reason+")")
	}
	slices.Sort(parts)
	text := "Pre-flight did not check " + strings.Join(parts, "; ") + ". That is no failure."
	if strings.Contains(text, notAllowed) {
		text += " Allow the role that runs the deployment to read them, and they are checked too."
	}
	s.report.Notice(text)
}

// inspect parses the Dockerfile, and finds the stages that are to be built.
func (s *Step) inspect() error {
	if !s.settings.Builds() || s.settings.Asks() {
		return nil
	}
	b := s.settings.Build
	stages, _, err := build.Inspect(build.Options{
		Context: b.Context, File: b.File, Display: s.relative(b.File), Target: b.Target, BuildArgs: b.BuildArgs,
	})
	s.stages = stages
	return s.explainBuild(err)
}

// checkEditions checks the task definitions that are to be registered, side by
// side. placed says that it is known where the image goes; images is closed when
// those that are only deployed have been looked for.
func (s *Step) checkEditions(ctx context.Context, placed bool, images <-chan struct{}) error {
	errs := sideBySide(s.editions, func(e *edition) error { return s.checkDefinition(ctx, e, placed, images) })
	return errors.Join(errs...)
}

// checkDefinition chooses the containers, and checks what the task definition
// that is to be registered names, beside the task definition itself.
func (s *Step) checkDefinition(ctx context.Context, e *edition, placed bool, images <-chan struct{}) error {
	if e.base.Family() == "" {
		return nil // why is told already
	}
	edits, err := s.choose(e, placed)
	var wrong error
	var read preflight.Result
	var group errgroup.Group
	group.Go(func() error {
		<-images
		wrong = s.checkContent(ctx, e, edits, err)
		return nil
	})
	group.Go(func() error {
		// The digests of images are not needed for this.
		named := e.base
		if edited, editErr := s.edited(e, s.placeholder(), nil); edits && editErr == nil {
			named = edited
		}
		read = preflight.Definition(ctx, preflight.Options{
			Config: e.home.session.Config, Account: e.home.session.Account, Caller: preflight.CallerOf(e.home.session.ARN, e.home.role),
		}, named)
		return nil
	})
	_ = group.Wait() // each keeps its own error
	errs := []error{wrong}
	for _, finding := range read.Findings {
		errs = append(errs, finding)
	}
	s.unread(read.Unread...)
	s.has(read.Read...)
	return errors.Join(errs...)
}

// checkContent checks the task definition that is to be registered, and whether
// tasks of it could run here. edits and err are what choose has said.
func (s *Step) checkContent(ctx context.Context, e *edition, edits bool, err error) error {
	wanted := e.base
	if edits {
		if wanted, err = s.wanted(e, cmp.Or(s.deployable, s.placeholder())); err == nil {
			err = wanted.Check()
		}
	}
	errs := []error{err}
	for _, svc := range e.services {
		errs = append(errs, s.checkPlatform(ctx, svc))
	}
	if err == nil {
		errs = append(errs, s.checkTask(ctx, e, wanted))
	}
	return errors.Join(errs...)
}

// choose finds the containers that get the image and the settings. edits is false
// where they cannot be told.
func (s *Step) choose(e *edition, placed bool) (edits bool, err error) {
	t := s.settings.Task
	makes := s.settings.Builds() || s.settings.Merges()
	if makes || t.Image != "" || t.Edits() || len(t.ContainerNames) > 0 || len(e.named()) > 0 {
		repository := taskdef.Repository(t.Image)
		if targets := slices.Concat(s.refs, s.repositories); len(targets) > 0 {
			repository = taskdef.Repository(targets[0])
		}
		if !placed && len(t.ContainerNames) == 0 && len(e.base.Containers()) > 1 {
			return false, nil // the repository would tell which
		}
		if e.containers, err = s.pick(e, repository); err != nil {
			e.containers = nil
			return false, err
		}
	}
	return true, nil
}

// lastRole is the role that the inputs end at, or empty.
func (s *Step) lastRole() string {
	roles := s.settings.Credentials.RolesToAssume
	if len(roles) == 0 {
		return ""
	}
	return roles[len(roles)-1]
}
