package build_test

import (
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	provenancetypes "github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/moby/buildkit/util/attestation"

	"github.com/towline/towline/internal/build"
)

// What is attached reaches a registry in BuildKit's form, says what was asked
// for, and is the same in a second build.
func TestAttestations(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	tests := map[string]struct {
		attest  build.Attestations
		kinds   []string
		has     string
		hasNone string
	}{
		"min":  {build.Attestations{Provenance: build.ProvenanceMin}, []string{"https://slsa.dev/provenance/v1"}, "base.example/base", "build-arg:KEY"},
		"max":  {build.Attestations{Provenance: build.ProvenanceMax, BuilderID: "https://b.example/"}, []string{"https://slsa.dev/provenance/v1"}, "build-arg:KEY", "hunter2"},
		"old":  {build.Attestations{Provenance: build.ProvenanceMax, Version: "v0.2"}, []string{"https://slsa.dev/provenance/v0.2"}, `"materials"`, "hunter2"},
		"both": {build.Attestations{Provenance: build.ProvenanceMin, SBOM: true}, []string{"https://spdx.dev/Document", "https://slsa.dev/provenance/v1"}, "pkg:deb/thing@1.0", "hunter2"},
	}
	for test, tt := range tests {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			var digests []v1.Hash
			for range 2 {
				content := attested(t, tt.attest)
				digests = append(digests, content.Descriptor.Digest)
				if len(digests) == 2 {
					checkAttested(t, content, tt.kinds, tt.has, tt.hasNone)
				}
			}
			if digests[0] != digests[1] {
				t.Errorf("got the digests %v, want one", digests)
			}
		})
	}
}

func attested(t *testing.T, attest build.Attestations) *build.Content {
	t.Helper()
	dir := t.TempDir()
	dockerfile := "FROM base.example/base:1\nARG KEY\nCOPY status /var/lib/dpkg/status\n"
	for file, text := range map[string]string{"Dockerfile": dockerfile, "status": "Package: thing\nVersion: 1.0\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	result, err := build.Build(t.Context(), build.Options{
		Context: dir, File: filepath.Join(dir, "Dockerfile"), Display: "Dockerfile", Dir: filepath.Join(t.TempDir(), "build"),
		Machine: v1.Platform{OS: "linux", Architecture: "amd64"}, Platforms: []v1.Platform{{OS: "linux", Architecture: "amd64"}},
		Images: bases{busybox(t)}, SourceDateEpoch: "1700000000",
		BuildArgs: map[string]string{"KEY": "value"}, Secrets: map[string][]byte{"token": []byte("hunter2")},
		Attestations: attest,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = result.Close() })
	content, err := result.Content(build.ManifestOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func checkAttested(t *testing.T, content *build.Content, kinds []string, has, hasNone string) {
	t.Helper()
	server := httptest.NewServer(registry.New())
	t.Cleanup(server.Close)
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if err = remote.WriteIndex(ref, content.Index); err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 2 {
		t.Fatalf("got %v, %v, want an image and its attestations", manifest, err)
	}
	image, about := manifest.Manifests[0], manifest.Manifests[1]
	if about.Annotations[attestation.DockerAnnotationReferenceDigest] != image.Digest.String() ||
		about.Annotations[attestation.DockerAnnotationReferenceType] != attestation.DockerAnnotationReferenceTypeDefault || about.Platform.OS != "unknown" {
		t.Errorf("got the descriptor %+v, want one that names %s", about, image.Digest)
	}
	kept, err := index.Image(about.Digest)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := kept.Layers()
	if err != nil || len(layers) != len(kinds) {
		t.Fatalf("got %d statements, %v, want %d", len(layers), err, len(kinds))
	}
	var all strings.Builder
	for i, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		_ = r.Close()
		if err != nil {
			t.Fatal(err)
		}
		all.Write(data)
		var got struct {
			PredicateType string
			Subject       []struct{ Digest map[string]string }
			Predicate     json.RawMessage
		}
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if got.PredicateType != kinds[i] || len(got.Subject) != 1 || got.Subject[0].Digest["sha256"] != image.Digest.Hex {
			t.Errorf("got a statement of type %s about %v, want %s about %s", got.PredicateType, got.Subject, kinds[i], image.Digest)
		}
		if got.PredicateType != "https://slsa.dev/provenance/v1" {
			continue
		}
		var p provenancetypes.ProvenancePredicateSLSA1
		if err := json.Unmarshal(got.Predicate, &p); err != nil {
			t.Errorf("BuildKit cannot read it: %v", err)
		}
		if deps := p.BuildDefinition.ResolvedDependencies; len(deps) != 1 || deps[0].Digest["sha256"] == "" {
			t.Errorf("got the dependencies %+v, want the base with its digest", deps)
		}
	}
	if !strings.Contains(all.String(), has) {
		t.Errorf("got %s, want %q in it", all.String(), has)
	}
	if strings.Contains(all.String(), hasNone) {
		t.Errorf("got %s, want no %q in it", all.String(), hasNone)
	}
}
