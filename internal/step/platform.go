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
func (s *Step) checkPlatform(ctx context.Context) error {
	if !s.settings.Builds() && !s.settings.Merges() {
		return nil
	}
	if system := s.base.OperatingSystem(); system != "" && system != "LINUX" {
		return s.wrongPlatform(fmt.Errorf("the task definition's runtimePlatform wants %s, and images of Towline are for Linux", system),
			"Name a task definition for Linux, or deploy an image that is built elsewhere (input \"image\").")
	}
	wants, why := s.base.CPUArchitecture(), "the task definition's runtimePlatform wants "+s.base.CPUArchitecture()
	switch {
	case wants != "":
	case s.onFargate():
		wants, why = "X86_64", "the task definition has no runtimePlatform, for which Fargate takes X86_64"
	default:
		return s.checkInstances(ctx)
	}
	if err := s.runsOn([]string{wants}, why); err != nil {
		return err
	}
	if s.onFargate() {
		return nil
	}
	return s.checkInstances(ctx)
}

// onFargate says whether the tasks run there, as far as that is known.
func (s *Step) onFargate() bool {
	if s.service == nil {
		return s.base.Requires("FARGATE") && !s.base.Requires("EC2")
	}
	if s.service.LaunchType != "" {
		return s.service.LaunchType == "FARGATE"
	}
	return len(s.service.CapacityProviders) > 0 && !slices.ContainsFunc(s.service.CapacityProviders, func(p string) bool { return !strings.HasPrefix(p, "FARGATE") })
}

// checkInstances holds the image against the instances that the cluster has. A
// capacity provider may start others, so that is a warning only.
func (s *Step) checkInstances(ctx context.Context) error {
	if s.service == nil || s.service.LaunchType != "EC2" && len(s.service.CapacityProviders) == 0 || s.onFargate() {
		return nil
	}
	found, err := s.deployer.Architectures(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		s.unread(preflight.UnreadOf(ctx, "ecs:ListContainerInstances and ecs:DescribeContainerInstances", "the instances of cluster "+s.service.ClusterName, err))
		return nil
	case len(found) == 0:
		return nil
	}
	wrong := s.runsOn(found, fmt.Sprintf("the instances of cluster %s are %s", s.service.ClusterName, strings.Join(found, " and ")))
	known, isWrong := errors.AsType[*problem.Error](wrong)
	if isWrong && s.service.LaunchType == "" {
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
