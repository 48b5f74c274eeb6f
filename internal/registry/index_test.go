package registry

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/problem"
)

// remoteIndex reads an index back.
func remoteIndex(t *testing.T, c *Client, ref string) v1.ImageIndex {
	t.Helper()
	got, err := c.get(t.Context(), must[name.Reference](t)(c.parse(t.Context(), ref)))
	if err != nil {
		t.Fatal(err)
	}
	return must[v1.ImageIndex](t)(got.ImageIndex())
}

func platformsOf(t *testing.T, index v1.ImageIndex) []string {
	t.Helper()
	var got []string
	for _, desc := range must[*v1.IndexManifest](t)(index.IndexManifest()).Manifests {
		got = append(got, desc.Platform.String())
	}
	return got
}

// What an index names is there before the index, and the index before its tags.
func TestPushIndex(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t)
		app, other := a.repository(t, emulator.Repository{Name: "app", ImmutableTags: true}), a.repository(t, emulator.Repository{Name: "other"})
		idx, _ := index(t, "linux/amd64", "linux/arm64")
		pushed := must[*Pushed](t)(a.client.Push(t.Context(), idx, []string{app + ":1", app + ":2", other + ":1"}))
		if digest := must[v1.Hash](t)(idx.Digest()); pushed.Digest != digest || pushed.Size == 0 || len(pushed.Tags) != 3 {
			t.Errorf("got %+v, want the index %s", pushed, digest)
		}
		manifests := func(verb string) []string {
			return slices.Repeat([]string{verb + " blobs", "pushed manifest"}, 3) // the third is an attestation
		}
		want := slices.Concat(manifests("pushed"), []string{"pushed index", "pushed tag " + app + ":1", "pushed tag " + app + ":2"},
			manifests("mounted"), []string{"pushed index", "pushed tag " + other + ":1"})
		if diff := cmp.Diff(want, inOrder(a.events)); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if err := validate.Index(remoteIndex(t, a.client, other+":1")); err != nil {
			t.Error(err)
		}
		must[*Pushed](t)(a.client.Push(t.Context(), idx, []string{app + ":1"}))
		if diff := cmp.Diff([]string{"exists index", "exists tag " + app + ":1"}, a.events.take()); diff != "" {
			t.Errorf("again (-want +got):\n%s", diff)
		}
		changed, _ := index(t, "linux/amd64", "linux/386")
		_, err := a.client.Push(t.Context(), changed, []string{app + ":1"})
		wantProblem(t, err, "tags", "cannot be moved")
	})
}

// inOrder takes the events as they came, and a manifest's blobs, which move side
// by side, as one.
func inOrder(e *events) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, event := range e.all {
		what, name, _ := strings.Cut(event.Object, " ")
		text := string(event.Kind) + " " + what
		switch what {
		case "tag":
			text += " " + name
		case "layer", "config":
			text = string(event.Kind) + " blobs"
		}
		if len(out) == 0 || out[len(out)-1] != text {
			out = append(out, text)
		}
	}
	e.all = nil
	return out
}

func wantProblem(t *testing.T, err error, input, text string) {
	t.Helper()
	known := problem.All("", err)
	if len(known) != 1 || known[0].Input != input || known[0].Fix == "" || !strings.Contains(known[0].Error(), text) {
		t.Errorf("got %v, want a problem with %q that has %q and a remedy", err, input, text)
	}
}

// The jobs of a matrix push by digest, another makes the index.
func TestMerge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t)
		app, other := a.repository(t, emulator.Repository{Name: "app"}), a.repository(t, emulator.Repository{Name: "other"})
		refs := map[string]string{}
		for platform, uri := range map[string]string{"linux/amd64": app, "linux/arm64": app, "linux/arm/v7": other} {
			pushed := must[*Pushed](t)(a.client.PushUntagged(t.Context(), image(t, 2, platform), []string{uri, uri}))
			if len(pushed.Tags) != 0 {
				t.Errorf("got tags %v, want none", pushed.Tags)
			}
			refs[platform] = uri + "@" + pushed.Digest.String()
		}
		nested, _ := index(t, "linux/386", "linux/s390x")
		refs["index"] = other + "@" + must[*Pushed](t)(a.client.PushUntagged(t.Context(), nested, []string{other})).Digest.String()
		a.client = a.connect(t, a.RoundTripper(), nil)
		uploads, _ := a.Uploaded()
		a.events.take()

		merge := func(annotations map[string]string, names ...string) (v1.ImageIndex, []*Part, error) {
			var list []string
			for _, name := range names {
				list = append(list, refs[name])
			}
			return a.client.Merge(t.Context(), list, annotations)
		}
		idx, parts, err := merge(map[string]string{"k": "v"}, "linux/amd64", "linux/arm64", "linux/arm/v7", "index")
		if err != nil {
			t.Fatal(err)
		}
		if len(parts) != 6 || parts[2].Ref != refs["linux/arm/v7"] || parts[2].Platform.String() != "linux/arm/v7" {
			t.Errorf("got parts %v", parts)
		}
		pushed := must[*Pushed](t)(a.client.Push(t.Context(), idx, []string{app + ":1"}))
		if now, _ := a.Uploaded(); now != uploads+4 {
			t.Errorf("%d blobs were uploaded, want four configs: layers are mounted", now-uploads)
		}
		got := remoteIndex(t, a.client, app+"@"+pushed.Digest.String())
		if err = validate.Index(got); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/386", "linux/s390x", "unknown/unknown"}, platformsOf(t, got)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		manifest := must[*v1.IndexManifest](t)(got.IndexManifest())
		if manifest.Annotations["k"] != "v" || manifest.Manifests[0].ArtifactType != "" {
			t.Errorf("got %+v, want an annotation and no artifact type", manifest)
		}

		_, _, err = merge(nil, "linux/amd64", "linux/amd64")
		wantProblem(t, err, "merge-digests", "it is for linux/amd64, as ")
		refs["none"] = app + "@sha256:" + strings.Repeat("0", 64)
		_, _, err = merge(nil, "linux/amd64", "none")
		wantProblem(t, err, "merge-digests", "Check that the job which built it has pushed it")
	})
}

// BuildKit's attestations come along with the images that they are about.
func TestMergeAttestation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t)
		app := a.repository(t, emulator.Repository{Name: "app"})
		var refs []string
		for _, platform := range []string{"linux/amd64", "linux/arm64"} {
			idx := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image(t, 1, platform)}, mutate.IndexAddendum{Add: image(t, 1, ""), Descriptor: v1.Descriptor{
				Platform:    &v1.Platform{OS: "unknown", Architecture: "unknown"},
				Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest"},
			}})
			refs = append(refs, app+"@"+must[*Pushed](t)(a.client.PushUntagged(t.Context(), idx, []string{app})).Digest.String())
		}
		idx, _, err := a.client.Merge(t.Context(), refs, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"linux/amd64", "unknown/unknown", "linux/arm64", "unknown/unknown"}, platformsOf(t, idx)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if got := must[*v1.IndexManifest](t)(idx.IndexManifest()).Manifests[1].Annotations["vnd.docker.reference.type"]; got != "attestation-manifest" {
			t.Errorf("got %q, want the descriptor's annotations kept", got)
		}
	})
}
