package step

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/preflight"
	"github.com/towline/towline/internal/problem"
)

// checkPlatform refuses an image that the tasks could not run: by what the task
// definition's runtimePlatform says, by what Fargate runs where it says nothing,
// or by the cluster's instances.
func (s *Step) checkPlatform(ctx context.Context, svc *service) error {
	if !s.settings.Builds() && !s.settings.Merges() {
		return nil
	}
	base := svc.edition.base
	if system := base.OperatingSystem(); system != "" && system != "LINUX" {
		return s.wrongPlatform(fmt.Errorf("the task definition's runtimePlatform wants %s, and images of Towline are for Linux", system),
			"Name a task definition for Linux, or deploy an image that is built elsewhere (input \"image\").")
	}
	wants, why := base.CPUArchitecture(), "the task definition's runtimePlatform wants "+base.CPUArchitecture()
	switch {
	case wants != "":
	case svc.onFargate():
		wants, why = "X86_64", "the task definition has no runtimePlatform, for which Fargate takes X86_64"
	default:
		return s.checkInstances(ctx, svc)
	}
	if err := s.runsOn([]string{wants}, why); err != nil {
		return err
	}
	if svc.onFargate() {
		return nil
	}
	return s.checkInstances(ctx, svc)
}

// onFargate says whether the tasks run there, as far as that is known.
func (svc *service) onFargate() bool {
	if svc.found == nil {
		return svc.edition.base.Requires("FARGATE") && !svc.edition.base.Requires("EC2")
	}
	if svc.found.LaunchType != "" {
		return svc.found.LaunchType == "FARGATE"
	}
	return len(svc.found.CapacityProviders) > 0 && !slices.ContainsFunc(svc.found.CapacityProviders, func(p string) bool { return !strings.HasPrefix(p, "FARGATE") })
}

// checkInstances holds the image against the instances that the cluster has. A
// capacity provider may start others, so that is a warning only.
func (s *Step) checkInstances(ctx context.Context, svc *service) error {
	if svc.found == nil || svc.found.LaunchType != "EC2" && len(svc.found.CapacityProviders) == 0 || svc.onFargate() {
		return nil
	}
	found, err := svc.deployer.Architectures(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		s.unread(preflight.UnreadOf(ctx, "ecs:ListContainerInstances and ecs:DescribeContainerInstances", "the instances of cluster "+svc.found.ClusterName, err))
		return nil
	case len(found) == 0:
		return nil
	}
	wrong := s.runsOn(found, fmt.Sprintf("the instances of cluster %s are %s", svc.found.ClusterName, strings.Join(found, " and ")))
	known, isWrong := errors.AsType[*problem.Error](wrong)
	if isWrong && svc.found.LaunchType == "" {
		s.report.Warning(known.Error())
		return nil
	}
	return wrong
}

// runsOn refuses an image for none of the architectures.
func (s *Step) runsOn(architectures []string, why string) error {
	var wants []string
	for _, a := range architectures {
		wants = append(wants, map[string]string{"X86_64": "amd64", "ARM64": "arm64"}[a])
	}
	have := s.images()
	if slices.Contains(wants, "") || slices.ContainsFunc(have, func(p v1.Platform) bool { return slices.Contains(wants, p.Architecture) }) {
		return nil
	}
	names := make([]string, len(have))
	for i, p := range have {
		names[i] = "linux/" + p.Architecture
	}
	fix := fmt.Sprintf("Build for linux/%[1]s: on a runner of that architecture, or with input platforms: linux/%[1]s.", wants[0])
	if s.settings.Merges() {
		fix = fmt.Sprintf("Build for linux/%s in one of the jobs too.", wants[0])
	}
	return s.wrongPlatform(fmt.Errorf("%s, so its tasks could not run a %s image", why, strings.Join(names, " or ")), fix)
}

// images are the platforms of what is built or merged.
func (s *Step) images() []v1.Platform {
	if s.product != nil {
		return s.product.platforms
	}
	return platforms(s.settings.Build.Platforms)
}

func (s *Step) wrongPlatform(err error, fix string) error {
	input, value := "platforms", strings.Join(s.settings.Build.Platforms, ",")
	if s.settings.Merges() {
		input, value = "merge-digests", ""
	}
	return &problem.Error{Op: "check platform", Input: input, Value: value, Err: err, Fix: fix}
}
