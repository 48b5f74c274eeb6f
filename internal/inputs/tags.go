package inputs

import (
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// destinations reads where the image goes: the registry's tags and digests, and
// what is written into the workspace.
func (p *parser) destinations(s *Settings) {
	image := p.outputs(&s.Build)
	p.annotations(&s.Build)
	items := p.list("tags", true)
	for _, name := range image.names {
		items = append(items, item{text: strings.TrimSpace(name)})
	}
	s.Build.PushByDigest = image.byDigest && (image.push == nil || *image.push)
	byDefault := len(s.Build.Exports) == 0 || image.given
	if image.push != nil {
		byDefault = *image.push
	}
	if s.Build.PushByDigest {
		p.digestRepositories(s, items)
		s.Build.Push = p.boolean("push", true)
		s.Build.PushByDigest = s.Build.Push
	} else {
		p.tags(s, items, byDefault)
	}
	p.mergeDigests(s)
}

// tags reads the tags and whether to push, which depend on the repository.
func (p *parser) tags(s *Settings, items []item, push bool) {
	repository := s.Registry.Repository
	if len(items) == 0 && p.given("repository") && !p.given("image") {
		if sha := p.env("GITHUB_SHA"); sha != "" {
			items = []item{{text: sha[:min(len(sha), 12)]}}
		} else {
			p.failf("tags", "", "Set \"tags\".", "empty, and there is no GITHUB_SHA to take the default from")
		}
	}
	s.Build.Push = p.boolean("push", push && len(items) > 0)
	var homeless []string
	for _, entry := range items {
		if isBare(entry.text) && !p.given("repository") {
			homeless = append(homeless, entry.text)
			continue
		}
		tag, err := parseTag(entry.text, repository, s.Build.Push)
		if err != nil {
			p.fail("tags", entry.text, "Write a bare tag such as v1, which goes on \"repository\", or a full reference such as HOST/NAME:v1.", err)
			continue
		}
		if !slices.Contains(s.Build.Tags, tag) {
			s.Build.Tags = append(s.Build.Tags, tag)
		}
	}
	if len(homeless) > 0 {
		p.failf("tags", strings.Join(homeless, ", "), "Set \"repository\" for bare tags, or write full references.", "a tag without a repository")
	}
	if p.given("push") && s.Build.Push && len(items) == 0 {
		p.failf("push", p.values["push"], "Set \"repository\" or \"tags\".", "there is no tag to push")
	}
}

// digestRepositories are where an image goes without a tag: the names of the
// output, or "tags" without their tags, as docker build takes them, or else
// "repository".
func (p *parser) digestRepositories(s *Settings, items []item) {
	const fix = "Set \"repository\" alone, or write HOST/NAME without a tag."
	for _, entry := range items {
		if isBare(entry.text) || strings.LastIndexByte(entry.text, ':') > strings.LastIndexByte(entry.text, '/') {
			p.failf("tags", entry.text, fix, "\"outputs\" has push-by-digest, which gives no tag")
			continue
		}
		repository, err := parseRepository(entry.text)
		if err != nil {
			p.fail("tags", entry.text, fix, err)
			continue
		}
		if !slices.Contains(s.Build.DigestRepositories, repository) {
			s.Build.DigestRepositories = append(s.Build.DigestRepositories, repository)
		}
	}
	if len(items) == 0 && p.given("repository") {
		s.Build.DigestRepositories = []Repository{s.Registry.Repository}
	}
	if len(items) == 0 && !p.given("repository") {
		p.failf("outputs", p.values["outputs"], "Set \"repository\", or write name=HOST/NAME.", "push-by-digest without a repository")
	}
}

// Digest is an image in a repository.
type Digest struct {
	Repository
	Digest string
}

// String is REPOSITORY@DIGEST.
func (d Digest) String() string { return d.Repository.String() + "@" + d.Digest }

// mergeDigests reads the digests that become one index.
func (p *parser) mergeDigests(s *Settings) {
	const fix = "Write lines of sha256:DIGEST, which are of \"repository\", or HOST/NAME@sha256:DIGEST."
	repository := s.Registry.Repository
	if !p.given("repository") && len(s.Build.Tags) > 0 {
		repository = s.Build.Tags[0].Repository
	}
	raw := p.get("merge-digests")
	p.values["merge-digests"] = strings.TrimSpace(raw)
	// A job's output that did not arrive leaves an empty line, and the index would
	// lack its platform.
	lines := strings.Split(strings.TrimSuffix(raw, "\n"), "\n")
	if i := slices.IndexFunc(lines, func(line string) bool { return strings.TrimSpace(line) == "" }); raw != "" && i >= 0 {
		p.failf("merge-digests", "", "Check that each job has set its output, and that this job needs them all.", "line %d is empty: a digest did not arrive", i+1)
		return
	}
	entries, err := list(raw, true)
	if err != nil {
		p.fail("merge-digests", "", fix, err)
	}
	for _, entry := range entries {
		place, digest, placed := strings.Cut(entry.text, "@")
		if !placed {
			place, digest = "", entry.text
		}
		d := Digest{Repository: repository, Digest: digest}
		_, err := v1.NewHash(digest)
		if err == nil && !strings.HasPrefix(digest, "sha256:") {
			err = fmt.Errorf("%q is not a sha256", digest)
		}
		if placed && err == nil {
			d.Repository, err = parseRepository(place)
		}
		switch {
		case err != nil:
			p.fail("merge-digests", entry.text, fix, err)
		case d.Name == "":
			p.failf("merge-digests", entry.text, "Set \"repository\", or write HOST/NAME@sha256:DIGEST.", "a digest without a repository")
		case slices.Contains(s.Build.MergeDigests, d):
			p.failf("merge-digests", entry.text, "Give each digest once: every job of the matrix should have pushed another.", "twice")
		default:
			s.Build.MergeDigests = append(s.Build.MergeDigests, d)
		}
	}
}
