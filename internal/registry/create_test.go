package registry

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/problem"
)

// TestCreate: what is made can be pushed to, and its tags stay, except those that move.
func TestCreate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		tags []string
		want Repository
	}{
		"no tag":    {want: Repository{TagMutability: "IMMUTABLE"}},
		"unique":    {tags: []string{"8f3ad1c0b6a9", "1.2.3", "2026-11-23", "build-4711"}, want: Repository{TagMutability: "IMMUTABLE"}},
		"and moved": {tags: []string{"1.2.3", "latest", "1.2", "v1", "main"}, want: Repository{TagMutability: "IMMUTABLE_WITH_EXCLUSION", TagExclusions: []string{"latest", "1.2", "v1", "main"}}},
		"many":      {tags: []string{"latest", "1.2", "v1", "main", "dev", "test"}, want: Repository{TagMutability: "MUTABLE"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAccount(t)
				missing := a.client.Targets(t.Context(), []string{"team/app"})[0]
				if !missing.Missing {
					t.Fatalf("Targets: %+v, want it to be missing", missing)
				}
				made := must[Target](t)(a.client.Create(t.Context(), missing, test.tags))
				test.want.Name, test.want.URI = "team/app", "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/app"
				test.want.ScanOnPush, test.want.Encryption = true, "AES256"
				if diff := cmp.Diff(&test.want, made.Settings); diff != "" {
					t.Errorf("Create (-want +got):\n%s", diff)
				}
				found := a.client.Targets(t.Context(), []string{"team/app"})[0]
				if diff := cmp.Diff(&test.want, found.Settings); diff != "" || found.URI != made.URI {
					t.Errorf("Targets of what was created (-want +got):\n%s", diff)
				}
				var refs []string
				for _, tag := range append(test.tags, "z-2026") {
					refs = append(refs, made.URI+":"+tag)
				}
				must[*Pushed](t)(a.client.Push(t.Context(), image(t, 1, ""), refs))
				for _, ref := range refs {
					_, err := a.client.Push(t.Context(), image(t, 1, ""), []string{ref})
					_, tag, _ := strings.Cut(ref, ":")
					if refused := err != nil; refused != test.want.Immutable(tag) {
						t.Errorf("moving %s: %v", tag, err)
					}
				}
			})
		})
	}
}

// TestCreateTold: nothing is made before it is asked for, and what is made is told.
func TestCreateTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t)
		missing := a.client.Targets(t.Context(), []string{"app"})[0]
		if n := len(a.Called("ecr", "CreateRepository")); n != 0 || !missing.Missing || missing.Err == nil {
			t.Fatalf("%d repositories were created by looking for them: %+v", n, missing)
		}
		made := must[Target](t)(a.client.Create(t.Context(), missing, []string{"latest", "app-*"}))
		if again := must[string](t)(a.client.RepositoryURI(t.Context(), "app")); again != made.URI {
			t.Errorf("got %q, then %q", made.URI, again)
		}
		if diff := cmp.Diff([]string{"created repository"}, a.events.take()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if r := a.client.settings[made.URI]; r == nil || r.Immutable("app-1") || !r.Immutable("1.2.3") {
			t.Errorf("settings: %+v", r)
		}
	})
}

// TestProbeMissing: rights show before the repository is there, its lack is no
// finding, and nothing is made of a connection that breaks.
func TestProbeMissing(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault emulator.Fault
		want  string
	}{
		"all is well":       {},
		"no PutImage":       {fault: emulator.Fault{Service: "registry", Action: "PUT no manifest", Kind: emulator.Denied, Times: -1}, want: "Allow ecr:PutImage on arn:aws:ecr:us-east-1:123456789012:repository/app to the role"},
		"connection closed": {fault: emulator.Fault{Service: "registry", Action: "POST upload", Kind: emulator.Reset, Times: -1}},
		"unavailable":       {fault: emulator.Fault{Service: "registry", Kind: emulator.Unavailable, Times: -1}},
		"no token":          {fault: emulator.Fault{Service: "ecr", Action: "GetAuthorizationToken", Kind: emulator.Denied, Times: -1}, want: "Allow ecr:GetAuthorizationToken"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAccount(t)
				if test.fault.Kind != "" {
					a.Fail(test.fault)
				}
				err := a.client.ProbeMissing(t.Context(), "123456789012.dkr.ecr.us-east-1.amazonaws.com/app")
				if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want %q", err, test.want)
				}
			})
		})
	}
}

func TestCreateFails(t *testing.T) {
	t.Parallel()
	refused := func(code, text string) emulator.Fault {
		return emulator.Fault{Service: "ecr", Action: "CreateRepository", Error: &emulator.Error{Code: code, Message: text, Status: 400}, Times: -1}
	}
	tests := map[string]struct {
		fault emulator.Fault
		race  bool
		want  []string // nothing: it works
	}{
		"somebody else was quicker": {race: true},
		"denied": {
			fault: emulator.Fault{Service: "ecr", Action: "CreateRepository", Kind: emulator.Denied, Times: -1},
			want:  []string{"Allow ecr:CreateRepository", "aws ecr create-repository --repository-name app --region us-east-1"},
		},
		"quota":                {fault: refused("LimitExceededException", "The 'repositories per region' quota was exceeded"), want: []string{"higher quota"}},
		"name":                 {fault: refused("InvalidParameterException", "Invalid parameter at 'repositoryName'"), want: []string{"Choose another name"}},
		"no exclusions there":  {fault: emulator.Fault{Service: "ecr", Action: "CreateRepository", Error: &emulator.Error{Code: "InvalidParameterException", Message: "unknown", Status: 400}}},
		"throttled and served": {fault: emulator.Fault{Service: "ecr", Action: "CreateRepository", Kind: emulator.Throttle}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAccount(t)
				missing := a.client.Targets(t.Context(), []string{"app"})[0]
				if test.race {
					a.AddRepository(emulator.Repository{Name: "app", ImmutableTags: true})
				}
				a.Fail(test.fault)
				made, err := a.client.Create(t.Context(), missing, []string{"latest"})
				if len(test.want) == 0 {
					if err != nil || made.URI == "" || made.Missing || made.Settings == nil {
						t.Errorf("Create: %+v, %v", made, err)
					}
					if test.race && made.Settings.TagMutability != "IMMUTABLE" {
						t.Errorf("Create: %+v, want the other one's settings", made.Settings)
					}
					return
				}
				if p, ok := errors.AsType[*problem.Error](err); !ok || p.Input != "create-repository" {
					t.Fatalf("Create: %v", err)
				}
				for _, want := range test.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("Create: %q lacks %q", err, want)
					}
				}
			})
		})
	}
}
