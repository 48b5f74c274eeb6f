package inputs

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/problem"
)

func TestRegistry(t *testing.T) {
	t.Parallel()
	const ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
	tests := map[string]struct {
		set, env values
		want     func(*Registry)
		needsAWS bool
		region   string
	}{
		"nothing": {want: func(*Registry) {}},
		"logins": {
			set: values{"registries": "000000000042, https://" + ecr + "/\n210987654321", "output-docker-credentials": "true"},
			want: func(r *Registry) {
				r.Registries, r.OutputDockerCredentials = []string{"000000000042", ecr, "210987654321"}, true
			}, needsAWS: true, region: "eu-west-1",
		},
		"public": {set: values{"registry-type": "public"}, want: func(r *Registry) { r.Public = true }, needsAWS: true, region: "us-east-1"},
		"push to ECR Public": {
			set:      values{"repository": "public.ecr.aws/a1b2/shop", "tags": "v1"},
			want:     func(r *Registry) { r.Repository = Repository{"public.ecr.aws", "a1b2/shop"} },
			needsAWS: true, region: "us-east-1",
		},
		"created": {
			set:      values{"repository": ecr + "/shop", "tags": "v1", "create-repository": "true"},
			want:     func(r *Registry) { r.Repository, r.CreateRepository = Repository{ecr, "shop"}, true },
			needsAWS: true, region: "eu-west-1",
		},
		"ECR with a login of its own": {
			set: values{"repository": ecr + "/shop", "tags": "v1", "registry-credentials": ecr + "=AWS:secret"},
			want: func(r *Registry) {
				r.Repository, r.RegistryCredentials = Repository{ecr, "shop"}, map[string]Login{ecr: {User: "AWS", Password: "secret"}}
			},
			region: "eu-west-1",
		},
		"the job's own token": {
			set: values{"github-token": "ghs_1"}, env: values{"GITHUB_ACTOR": "octocat"},
			want: func(r *Registry) {
				r.RegistryCredentials["ghcr.io"] = Login{User: "octocat", Password: "ghs_1", Tentative: true}
			},
		},
		"another token": {
			set: values{"github-token": "ghs_1", "registry-credentials": "ghcr.io=me:ghp_2"},
			want: func(r *Registry) {
				r.RegistryCredentials["ghcr.io"] = Login{User: "me", Password: "ghp_2"}
			},
		},
		"a server of one's own": {
			set: values{"github-token": "ghs_1"}, env: values{"GITHUB_SERVER_URL": "https://acme.ghe.com"},
			want: func(r *Registry) {
				r.RegistryCredentials["containers.acme.ghe.com"] = Login{User: "x-access-token", Password: "ghs_1", Tentative: true}
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Parse(test.set.get, test.env.get)
			if err != nil && test.region == "" {
				t.Fatal(err)
			}
			want := Registry{RegistryCredentials: map[string]Login{}, RegistryMirrors: map[string]string{}}
			test.want(&want)
			if diff := cmp.Diff(want, s.Registry); diff != "" {
				t.Errorf("Registry (-want +got):\n%s", diff)
			}
			if s.NeedsAWS() != test.needsAWS || s.Credentials.AWSRegion != test.region {
				t.Errorf("NeedsAWS() = %t, region %q", s.NeedsAWS(), s.Credentials.AWSRegion)
			}
			for _, login := range s.Registry.RegistryCredentials {
				if !slices.Contains(s.Secrets(), login.Password) {
					t.Errorf("%s is no secret", login)
				}
			}
		})
	}
}

func TestRegistryMistakes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		set  values
		want []string
	}{
		"accounts":           {values{"registries": "12345678901, ghcr.io"}, []string{`"registries" is "12345678901"`, `"registries" is "ghcr.io"`}},
		"type":               {values{"registry-type": "Public"}, []string{"Write private or public."}},
		"alias":              {values{"registry-type": "public", "repository": "shop", "tags": "v1"}, []string{"public.ecr.aws/ALIAS/NAME"}},
		"nothing to create":  {values{"create-repository": "true", "tags": "ghcr.io/me/app:1"}, []string{"no repository of ECR"}},
		"nothing of our own": {values{"create-repository": "yes"}, []string{"neither true nor false"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(test.set.get, job().get)
			got := problem.All("", err)
			if len(got) != len(test.want) {
				t.Fatalf("Parse: %v, want %d mistakes", err, len(test.want))
			}
			for i, p := range got {
				if !strings.Contains(p.Error(), test.want[i]) {
					t.Errorf("mistake %d: %s", i, p)
				}
			}
		})
	}
}
