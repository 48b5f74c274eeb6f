package step

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/awsauth"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/preflight"
	"github.com/towline/towline/internal/taskdef"
)

// service is one service that the step is about, and what is known of it. Where
// a task definition is only registered, there is one without a name.
type service struct {
	target   inputs.Target
	home     *home
	deployer *deploy.Client
	// found is nil until it is read, and without a name.
	found *deploy.Service
	// current is the task definition that it runs now.
	current    taskdef.Document
	currentARN string
	// edition is what it is to run, nil until its family is known.
	edition *edition
	outcome deploy.Outcome
	// took is how long its deployment did; fail, while that goes on, gives it up as
	// failed before its end.
	took time.Duration
	fail func(error)
}

// home is an account and region that services are in, and who the step is there.
type home struct {
	session *awsauth.Session
	// role is the last that was assumed, or empty; shared is nil for one service.
	role   string
	roles  []string
	region string
	shared *deploy.Shared

	mu sync.Mutex
	// answers are task definitions as they were read, by ARN.
	answers map[string]func() ([]byte, error)
}

// edition is one task definition, which is registered once for all services
// whose family it is.
type edition struct {
	home     *home
	deployer *deploy.Client
	services []*service
	// base is what the image is put into, definition what is registered;
	// containers are where in it. known are revisions that need not be
	// registered again, the one to compare with first.
	base, definition taskdef.Document
	definitionARN    string
	containers       []string
	known            []revision
	// begins is the revision that the inputs name to begin with, or empty.
	begins string
	// file is where it was written for later steps, or empty.
	file string
}

// openServices makes a client for each service, and becomes who the step is in
// their regions and accounts.
func (s *Step) openServices(ctx context.Context) error {
	homes := map[string]*home{}
	var all []*home
	for _, target := range s.settings.Deployment.All() {
		region := cmp.Or(target.Region, s.session.Config.Region)
		key := strings.Join(append(target.Roles, region), " ")
		if homes[key] == nil {
			homes[key] = &home{roles: target.Roles, region: region, answers: map[string]func() ([]byte, error){}}
			if s.settings.Deployment.Several() {
				homes[key].shared = &deploy.Shared{}
			}
			all = append(all, homes[key])
		}
		s.services = append(s.services, &service{target: target, home: homes[key]})
	}
	if err := errors.Join(sideBySide(all, func(h *home) error { return s.openHome(ctx, h) })...); err != nil {
		s.services = nil
		return err
	}
	for _, svc := range s.services {
		svc.deployer = s.openDeployer(svc)
	}
	return nil
}

// openHome becomes who the step is in a region and account, from what it is in
// the first.
func (s *Step) openHome(ctx context.Context, h *home) (err error) {
	h.session, h.role = s.session, s.lastRole()
	if len(h.roles) == 0 && h.region == s.session.Config.Region {
		return nil
	}
	opts := s.sessionOptions()
	opts.Roles, opts.Region = h.roles, h.region
	if h.session, err = s.session.Assume(ctx, opts); err != nil {
		return err
	}
	if len(h.roles) > 0 {
		h.role = h.roles[len(h.roles)-1]
		s.note("assumed", h.session.ARN, "account "+h.session.Account, h.region)
	}
	return nil
}

// findServices reads the services, what they run, and the base task
// definitions.
func (s *Step) findServices(ctx context.Context) error {
	if !s.settings.Registers() {
		return nil
	}
	if err := s.openServices(ctx); err != nil {
		return err
	}
	errs := sideBySide(s.services, func(svc *service) error { return s.findService(ctx, svc) })
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.makeEditions()
	errs = append(errs, sideBySide(s.editions, func(e *edition) error { return s.findBase(ctx, e) })...)
	return errors.Join(errs...)
}

// findService reads one service, and what it runs.
func (s *Step) findService(ctx context.Context, svc *service) error {
	if !s.settings.Deploys() {
		return nil
	}
	found, err := svc.deployer.Service(ctx)
	if err != nil {
		return err
	}
	svc.currentARN = found.TaskDefinitionARN
	if err := s.findCurrent(ctx, svc); err != nil {
		return err
	}
	svc.found = found
	return nil
}

// findCurrent reads the task definition that the service runs. Where another is
// begun with, it is only compared with.
func (s *Step) findCurrent(ctx context.Context, svc *service) error {
	answer, err := svc.home.taskDefinition(ctx, svc.deployer, svc.currentARN)
	if err != nil {
		u := preflight.UnreadOf(ctx, "ecs:DescribeTaskDefinition", "what the service runs now", err)
		if s.settings.Task.HasBase() && u.Why == "" {
			s.unread(u)
			return nil
		}
		return err
	}
	if svc.current, err = taskdef.Described(answer); err != nil {
		return fmt.Errorf("task definition %s: %w", svc.currentARN, err)
	}
	return nil
}

// taskDefinition reads a task definition once for all services that run it.
func (h *home) taskDefinition(ctx context.Context, deployer *deploy.Client, arn string) ([]byte, error) {
	h.mu.Lock()
	read := h.answers[arn]
	if read == nil {
		read = sync.OnceValues(func() ([]byte, error) { return deployer.TaskDefinition(ctx, arn) })
		h.answers[arn] = read
	}
	h.mu.Unlock()
	return read()
}

// makeEditions puts services together that are to run the same task definition:
// those of a family, or all where one to begin with is named.
func (s *Step) makeEditions() {
	for _, svc := range s.services {
		if s.settings.Deploys() && svc.found == nil {
			continue // why is told already
		}
		i := slices.IndexFunc(s.editions, func(e *edition) bool {
			return e.home == svc.home && (s.settings.Task.HasBase() || e.services[0].current.Family() == svc.current.Family())
		})
		if i < 0 {
			i = len(s.editions)
			s.editions = append(s.editions, &edition{home: svc.home, deployer: svc.deployer})
		}
		svc.edition = s.editions[i]
		s.editions[i].services = append(s.editions[i].services, svc)
	}
}

// currents are what the edition's services run now, each once, the newest first.
func (e *edition) currents() []revision {
	var all []revision
	for _, svc := range e.services {
		known := slices.ContainsFunc(all, func(r revision) bool { return r.arn == svc.currentARN })
		if !known && svc.currentARN != "" && svc.current.Family() != "" {
			all = append(all, revision{svc.current, svc.currentARN})
		}
	}
	slices.SortStableFunc(all, func(a, b revision) int { return number(b.arn) - number(a.arn) })
	return all
}

// named are the containers that the services' lines name, each once.
func (e *edition) named() []string {
	var all []string
	for _, svc := range e.services {
		if name := svc.target.Container; name != "" && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// number is the revision in a task definition's ARN.
func number(arn string) int {
	n, err := strconv.Atoi(arn[strings.LastIndexByte(arn, ':')+1:])
	if err != nil {
		return 0
	}
	return n
}

// sideBySide does the same with each, all at once, and gives all errors in the
// order of what they are about.
func sideBySide[T any](all []T, do func(T) error) []error {
	errs := make([]error, len(all))
	var group errgroup.Group
	for i, one := range all {
		group.Go(func() error { errs[i] = do(one); return nil })
	}
	_ = group.Wait() // each has its own place
	return errs
}
