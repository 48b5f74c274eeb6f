package registry

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/towline/towline/internal/emulator"
)

// TestECRTexts: what ECR says in its own words, and what to do then.
func TestECRTexts(t *testing.T) {
	t.Parallel()
	said := func(action, code, text string, status int) emulator.Fault {
		return emulator.Fault{Service: "registry", Action: action, Times: -1, Error: &emulator.Error{Code: code, Message: text, Status: status}}
	}
	tests := map[string]struct {
		fault emulator.Fault
		pull  bool
		want  []string
		not   string
	}{
		"upstream login": {
			fault: said("GET manifest", "DENIED", "The authentication to the upstream registry failed. Verify that the credentials are valid", 403), pull: true,
			want: []string{"Secrets Manager", "below library/"},
		},
		"first pull": {
			fault: said("GET manifest", "DENIED", "User: arn:aws:sts::123456789012:assumed-role/deploy/x is not authorized to perform: ecr:BatchImportUpstreamImage on resource: arn:aws:ecr:us-east-1:123456789012:repository/hub/library/alpine", 403), pull: true,
			want: []string{"Allow ecr:BatchImportUpstreamImage, ecr:CreateRepository on arn:aws:ecr:us-east-1:123456789012:repository/app"},
		},
		"no such repository": {
			fault: said("GET manifest", "NAME_UNKNOWN", "The repository with name 'app' does not exist in the registry with id '123456789012'", 404), pull: true,
			want: []string{"pull-through cache", "the rule's prefix"},
		},
		"quota of images": {
			fault: said("PUT manifest", "DENIED", "The repository has reached the limit of images", 403),
			want:  []string{"quota of images", "lifecycle policy"},
		},
		"no right": {
			fault: said("PUT manifest", "DENIED", "User: x is not authorized to perform: ecr:PutImage on resource: y", 403),
			want:  []string{"Allow ecr:PutImage on"}, not: "quota",
		},
		"throttled for ever": {
			fault: emulator.Fault{Service: "registry", Action: "PUT manifest", Kind: emulator.Throttle, Times: -1},
			want:  []string{"Rate exceeded", "higher quota"},
		},
		"missing layer": {
			fault: said("PUT manifest", "BLOB_UNKNOWN", "Layers with digests '[sha256:1]' required for pushing image into repository with name 'app' in the registry with id '123456789012' do not exist", 404),
			want:  []string{"Layers with digests", "run the job again"}, not: "create-repository",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAccount(t)
				uri := a.repository(t, emulator.Repository{Name: "app"})
				a.Fail(test.fault)
				var err error
				if test.pull {
					_, err = a.client.Resolve(t.Context(), uri+":1", amd64)
				} else {
					_, err = a.client.Push(t.Context(), image(t, 1, ""), []string{uri + ":1"})
				}
				if err == nil {
					t.Fatal("it works")
				}
				for _, want := range test.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("error %q lacks %q", err, want)
					}
				}
				if test.not != "" && strings.Contains(err.Error(), test.not) {
					t.Errorf("error %q has %q", err, test.not)
				}
			})
		})
	}
}

// TestPullThrough: a cache as a mirror, whose first pull may fail; then the
// registry itself gives the image.
func TestPullThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.password = "p"
		img := image(t, 1, "")
		plain := &fake{hosts: f.hosts, blobs: f.blobs, tags: f.tags}
		put(t, plain, "docker.io/library/alpine:3", img)
		e := &fakeECR{passwords: []string{"p"}}
		opts := Options{Transport: f, ECR: e, Mirrors: map[string]string{"docker.io": ecrHost + "/hub"}}
		f.missing = []string{"hub/library/alpine"}
		if _, err := New(opts).Resolve(t.Context(), "alpine:3", amd64); err != nil {
			t.Errorf("without a cached image: %v", err)
		}
		f.missing = nil
		put(t, plain, ecrHost+"/hub/library/alpine:3", img)
		f.forget()
		if _, err := New(opts).Resolve(t.Context(), "alpine:3", amd64); err != nil || f.count("GET", hub) > 0 {
			t.Errorf("with a cached image: %v, %s", err, f.requests)
		}
	})
}
