package step

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/awsauth"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/registry"
	"github.com/towline/towline/internal/taskdef"
)

// authenticate becomes the AWS role.
func (s *Step) authenticate(ctx context.Context) error {
	session, err := s.openSession(ctx)
	if err != nil {
		return err
	}
	s.session = session
	verb := "using"
	if strings.Contains(session.ARN, ":assumed-role/") {
		verb = "assumed"
	}
	s.report.Say(verb, session.ARN, "account "+session.Account, session.Config.Region)
	return s.output(map[string]string{inputs.OutputAWSAccountID: session.Account})
}

// openRegistry makes the registry client, once. It contacts nobody.
func (s *Step) openRegistry() error {
	if s.registry != nil {
		return nil
	}
	dir, err := s.folder()
	if err != nil {
		return err
	}
	logins := map[string]authn.AuthConfig{}
	for host, login := range s.settings.Registry.RegistryCredentials {
		logins[host] = authn.AuthConfig{Username: login.User, Password: login.Password}
	}
	opts := registry.Options{
		Transport: s.opts.Transport, Mirrors: s.settings.Registry.RegistryMirrors,
		Credentials: logins, Mask: s.runner.Mask, Events: s.report.Registry, CacheDir: filepath.Join(dir, "blobs"),
	}
	if s.session != nil {
		opts.ECR = registry.NewECR(s.session.Config)
	}
	s.registry = registry.New(opts)
	return nil
}

func (s *Step) openSession(ctx context.Context) (*awsauth.Session, error) {
	c := s.settings.Credentials
	opts := awsauth.Options{
		Region: c.AWSRegion, Role: c.RoleToAssume, SessionName: c.RoleSessionName, Duration: c.RoleDuration,
		Audience: c.Audience, AccessKeyID: c.AWSAccessKeyID, SecretAccessKey: c.AWSSecretAccessKey, SessionToken: c.AWSSessionToken,
		Getenv: s.opts.Getenv, Mask: s.runner.Mask, Transport: s.opts.Transport, Notice: func(text string) { s.report.Say("note", text) },
	}
	if s.runner.HasIDToken() {
		opts.IDToken = s.runner.IDToken
	}
	return awsauth.Open(ctx, opts)
}

// preflight reads what later phases depend on, side by side, so that what
// cannot work fails before the build. It finds everything that is wrong at once.
func (s *Step) preflight(ctx context.Context) error {
	if err := s.openRegistry(); err != nil {
		return err
	}
	var group errgroup.Group
	var targets, image, service error
	group.Go(func() error { targets = s.findTargets(ctx); return nil })
	group.Go(func() error { image = s.findImage(ctx); return nil })
	group.Go(func() error { service = s.findService(ctx); return nil })
	_ = group.Wait() // each keeps its own error, so that both are told
	if err := errors.Join(targets, image, service); err != nil {
		return err
	}
	for i, ref := range s.merged {
		s.report.Say("found", "image "+ref, s.product.platforms[i].String())
	}
	if s.deployer == nil {
		return nil
	}
	return s.chooseContainer()
}

// findTargets turns the tags into full references, and asks for each ECR
// repository once.
func (s *Step) findTargets(ctx context.Context) error {
	uris := map[string]string{}
	failed := map[string]bool{}
	find := func(repository string) (string, error) {
		if uri, ok := uris[repository]; ok {
			return uri, nil
		}
		uri, err := s.registry.RepositoryURI(ctx, repository)
		if err == nil {
			uris[repository] = uri
		}
		return uri, err
	}
	var errs []error
	for _, tag := range s.settings.Build.Tags {
		if !s.settings.Build.Push {
			s.refs = append(s.refs, tag.String())
			continue
		}
		repository := tag.Repository.String()
		if failed[repository] {
			continue
		}
		uri, err := find(repository)
		if err != nil {
			failed[repository] = true
			errs = append(errs, err)
			continue
		}
		s.refs = append(s.refs, uri+":"+tag.Tag)
	}
	for _, repository := range s.settings.Build.DigestRepositories {
		uri, err := find(repository.String())
		errs = append(errs, err)
		s.repositories = append(s.repositories, uri)
	}
	if s.settings.Merges() && errors.Join(errs...) == nil {
		errs = append(errs, s.merge(ctx, find))
	}
	return errors.Join(errs...)
}

// findImage pins an image of ECR that is to be deployed by its digest, and
// refuses one that is not there. Other registries may be closed to us and yet
// open to the tasks.
func (s *Step) findImage(ctx context.Context) error {
	image := s.settings.Task.Image
	host, _, _ := strings.Cut(image, "/")
	if _, _, isECR := registry.ECRHost(host); !isECR || strings.Contains(image, "@") {
		return nil
	}
	found, err := s.registry.Resolve(ctx, image, v1.Platform{})
	var answer *transport.Error
	switch {
	case err == nil:
		s.deployable = image + "@" + found.Digest.String()
	case errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound:
		known, _ := errors.AsType[*problem.Error](err)
		return &problem.Error{Op: "find image", Input: "image", Value: image, Err: known.Err, Fix: "Check the image's name and tag; Towline can also build and push it (input \"repository\")."}
	default: // a role need not be able to pull
		s.report.Say("note", "image "+image+" is deployed by its tag", err.Error())
	}
	return nil
}

// findService reads the service, what it runs, and the base task definition.
func (s *Step) findService(ctx context.Context) error {
	if !s.settings.Registers() {
		return nil
	}
	d := s.settings.Deployment
	s.deployer = deploy.New(deploy.Options{
		Config: s.session.Config, Cluster: d.Cluster, Service: d.Service,
		Wait: d.WaitForServiceStability, WaitLimit: d.WaitFor, RollbackOnFailure: d.RollbackOnFailure,
		Events: s.report.Deploy,
	})
	if !s.settings.Deploys() {
		return nil
	}
	service, err := s.deployer.Service(ctx)
	if err != nil {
		return err
	}
	s.currentARN = service.TaskDefinitionARN
	answer, err := s.deployer.TaskDefinition(ctx, service.TaskDefinitionARN)
	if err != nil {
		return err
	}
	if s.current, err = taskdef.Described(answer); err != nil {
		return fmt.Errorf("task definition %s: %w", service.TaskDefinitionARN, err)
	}
	s.report.Say("found", "service "+service.Name, "cluster "+service.ClusterName,
		fmt.Sprintf("%d of %d tasks running", service.Running, service.Desired), "task definition "+lastPart(service.TaskDefinitionARN))
	if s.settings.Task.TaskDefinition == "" {
		s.base = s.current
	}
	return nil
}

// checkFiles finds out early whether the files are there that the inputs name.
func (s *Step) checkFiles() error {
	var errs []error
	if s.settings.Builds() {
		var err error
		s.epoch, err = s.sourceDateEpoch()
		errs = append(errs, s.checkBuildFiles(), err)
	}
	if file := s.settings.Task.TaskDefinition; file != "" {
		errs = append(errs, s.readTaskDefinition(file))
	}
	return errors.Join(errs...)
}

func (s *Step) checkBuildFiles() error {
	const opRead = "read the inputs"
	b := s.settings.Build
	if b.ContextHoldsFile && strings.Contains(b.Context, "://") || strings.HasPrefix(b.Context, "git@") {
		return nil // servers are asked by the build
	}
	if info, err := os.Stat(b.Context); err != nil || info.IsDir() == b.ContextHoldsFile {
		if err == nil {
			err = errors.New("it is not a folder")
			if b.ContextHoldsFile {
				err = errors.New("it is not a file")
			}
		}
		return &problem.Error{
			Op: opRead, Input: "context", Value: s.relative(b.Context), Err: unpathed(err),
			Fix: "Name a folder of the workspace, and check the repository out before this step (actions/checkout).",
		}
	}
	if b.ContextHoldsFile {
		return nil
	}
	if info, err := os.Stat(b.File); err != nil || info.IsDir() {
		if err == nil {
			err = errors.New("it is a folder")
		}
		return &problem.Error{
			Op: opRead, Input: "file", Value: s.relative(b.File), Err: unpathed(err),
			Fix: "Name the Dockerfile by its path from the workspace, and check the repository out before this step (actions/checkout).",
		}
	}
	return nil
}

func (s *Step) readTaskDefinition(file string) error {
	data, err := os.ReadFile(file) //nolint:gosec // the user names the file
	if err != nil {
		return &problem.Error{
			Op: "read task definition", Input: "task-definition", Value: s.relative(file), Err: unpathed(err),
			Fix: "Give the path of a JSON file, relative to the workspace, or leave it empty to take what the service runs now.",
		}
	}
	if s.base, err = taskdef.Parse(data); err != nil {
		if known, ok := errors.AsType[*problem.Error](err); ok {
			known.File, known.Value = s.relative(file), s.relative(file)
			return err
		}
		return &problem.Error{Op: "read task definition", Input: "task-definition", Value: s.relative(file), Err: err, File: s.relative(file), Fix: "Correct the file."}
	}
	return nil
}

// chooseContainer finds the container that gets the image, and refuses an image
// that its tasks could not run.
func (s *Step) chooseContainer() error {
	if s.settings.Task.Image == "" && !s.settings.Builds() && !s.settings.Merges() {
		return nil // the task definition is deployed as it stands
	}
	repository := taskdef.Repository(s.settings.Task.Image)
	if targets := slices.Concat(s.refs, s.repositories); len(targets) > 0 {
		repository = taskdef.Repository(targets[0])
	}
	container, err := s.base.Pick(s.settings.Task.ContainerName, repository)
	if err != nil {
		return err
	}
	s.container = container
	if s.settings.Builds() || s.settings.Merges() {
		if err := s.checkPlatform(); err != nil {
			return err
		}
	}
	s.report.Say("found", "container "+container, "task definition "+s.base.Family())
	return nil
}

// relative is a path as the user knows it.
func (s *Step) relative(path string) string {
	workspace := s.settings.Workspace
	if rel, err := filepath.Rel(workspace, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// unpathed takes the path out of an error that is told beside it.
func unpathed(err error) error {
	if pathErr, ok := errors.AsType[*os.PathError](err); ok {
		return pathErr.Err
	}
	return err
}
