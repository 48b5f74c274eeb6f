package step

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"

	"github.com/go-git/go-git/v5"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/problem"
)

// buildOptions is what the inputs say of the build.
func (s *Step) buildOptions(dir string, box sandbox.Sandbox) build.Options {
	b := s.settings.Build
	return build.Options{
		Context: b.Context, File: b.File, Display: s.relative(b.File), Contexts: b.Contexts,
		SSH: sshKeys(b.SSH), GitLogin: b.GitLogin, Transport: s.opts.Transport,
		Target: b.Target, BuildArgs: b.BuildArgs, Labels: b.Labels, Secrets: b.Secrets,
		Platforms: platforms(b.Platforms), Machine: machine(),
		Run: build.RunOptions{
			AddHosts: b.Run.AddHosts, Network: b.Run.Network, ShmSize: b.Run.ShmSize, Ulimits: b.Run.Ulimits,
		},
		Compression: build.Compression{Zstd: b.Compression.Kind == inputs.CompressionZstd, Level: b.Compression.Level},
		Attestations: build.Attestations{
			Provenance: build.ProvenanceMode(b.Attestations.Provenance), Version: b.Attestations.Version,
			BuilderID: b.Attestations.BuilderID, Reproducible: b.Attestations.Reproducible, SBOM: b.Attestations.SBOM,
		},
		NoCache: b.NoCache, NoCacheStages: b.NoCacheStages, SourceDateEpoch: s.epoch,
		Images: images{s.registry}, Sandbox: box, Dir: filepath.Join(dir, "build"), Progress: s.report.Build,
	}
}

// sshKeys are the build's words for the keys of an input.
func sshKeys(given map[string]inputs.SSHKeys) map[string]build.Keys {
	sets := map[string]build.Keys{}
	for id, set := range given {
		sets[id] = build.Keys{Socket: set.Socket, Keys: set.Keys}
	}
	return sets
}

// ask asks the Dockerfile a question and writes the answer into the log.
func (s *Step) ask(ctx context.Context) error {
	if err := s.openRegistry(); err != nil {
		return err
	}
	dir, err := s.folder()
	if err != nil {
		return err
	}
	opts := s.buildOptions(dir, nil)
	answer, err := build.Call(ctx, opts, s.settings.Build.Call)
	if answer != "" {
		s.report.Text(answer)
	}
	if err != nil {
		return s.explainBuild(err)
	}
	if s.settings.Build.Call == inputs.CallCheck {
		s.report.Say("checked", opts.Display, "no findings")
	}
	return nil
}

// sourceDateEpoch is the latest time in the image, as the build takes it.
func (s *Step) sourceDateEpoch() (string, error) {
	epoch := s.settings.Build.SourceDateEpoch
	if epoch != inputs.EpochCommit {
		return epoch, nil
	}
	when, err := commitTime(s.settings.Workspace)
	if err != nil {
		return "", &problem.Error{
			Op: "find the commit's time", Input: "source-date-epoch", Value: epoch, Err: err,
			Fix: "Check the repository out before this step (actions/checkout), or write seconds since 1970.",
		}
	}
	return when, nil
}

// commitTime is when the commit that is checked out in dir was made.
func commitTime(dir string) (string, error) {
	repository, err := git.PlainOpen(dir)
	if err != nil {
		if errors.Is(err, git.ErrRepositoryNotExists) {
			err = errors.New("the workspace is not a Git repository")
		}
		return "", err
	}
	head, err := repository.Head()
	if err != nil {
		return "", err
	}
	commit, err := repository.CommitObject(head.Hash())
	if err != nil {
		return "", err
	}
	return strconv.FormatInt(commit.Committer.When.Unix(), 10), nil
}
