package enginetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/emulator"
)

const works = "FROM busybox:1\nCMD [\"httpd\", \"-f\"]\n"

// Whatever goes wrong gives one error that says what and what to do, exit code 1, and
// nothing half done.
func TestFailures(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		dockerfile string
		with       map[string]string
		// break changes the account or the job.
		spoil func(*cloud, *job)
		// want is what the error must say.
		want []string
		// late is for failures after the image was pushed and the service updated.
		late bool
	}{
		"trust policy lets another repository in": {
			spoil: func(c *cloud, _ *job) {
				_, _ = c.AddRole(emulator.Role{Name: roleName, TrustPolicy: c.TrustGitHub("repo:acme/other:*")})
			},
			want: []string{"repo:acme/shop:ref:refs/heads/main", "AccessDenied"},
		},
		"no id-token permission": {
			spoil: func(_ *cloud, j *job) {
				delete(j.Env, "ACTIONS_ID_TOKEN_REQUEST_URL")
				delete(j.Env, "ACTIONS_ID_TOKEN_REQUEST_TOKEN")
			},
			want: []string{"id-token: write"},
		},
		"no such repository": {
			with: map[string]string{"repository": "nowhere"},
			want: []string{"nowhere", "RepositoryNotFoundException"},
		},
		"no such service": {
			with: map[string]string{"service": "nobody"},
			want: []string{"nobody"},
		},
		"no such container": {
			with: map[string]string{"container-name": "nothing"},
			want: []string{"nothing", "app", "sidecar"},
		},
		"Dockerfile does not parse": {
			dockerfile: "FROM busybox:1\n\nRUNN true\n",
			want:       []string{"file=Dockerfile,line=3", "RUNN"},
		},
		"RUN fails": {
			dockerfile: "FROM busybox:1\nRUN echo the last words && exit 3\n",
			want:       []string{"file=Dockerfile,line=2", "the last words", "3"},
		},
		"task exits at once": {
			spoil: func(c *cloud, _ *job) {
				c.Behave(func(emulator.TaskInfo) emulator.Behaviour {
					return emulator.Behaviour{Exit: &emulator.Exit{Container: "app", Code: 7}}
				})
			},
			want: []string{"7", "app"},
			late: true,
		},
		"image cannot be pulled": {
			spoil: func(c *cloud, _ *job) {
				c.Behave(func(emulator.TaskInfo) emulator.Behaviour {
					return emulator.Behaviour{FailToStart: "CannotPullContainerError: pull access denied"}
				})
			},
			want: []string{"CannotPullContainerError"},
			late: true,
		},
		"wait runs out": {
			with: map[string]string{"wait-for-minutes": "1"},
			spoil: func(c *cloud, _ *job) {
				c.Behave(func(emulator.TaskInfo) emulator.Behaviour {
					return emulator.Behaviour{StartDelay: time.Hour}
				})
			},
			want: []string{"wait-for-minutes"},
			late: true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := requireEngine(t)
			c := newCloud(t, e)
			if tt.dockerfile == "" {
				tt.dockerfile = works
			}
			j := c.job(e, write(t, map[string]string{"Dockerfile": tt.dockerfile}), tt.with)
			if tt.spoil != nil {
				tt.spoil(c, &j)
			}
			r := e.run(t, j)
			if r.Code != 1 {
				t.Errorf("got exit code %d, want 1", r.Code)
			}
			errors := errorLines(r.Log)
			if len(errors) != 1 {
				t.Errorf("got %d errors, want 1: %q", len(errors), errors)
			}
			text := strings.Join(errors, "\n")
			for _, want := range tt.want {
				if !strings.Contains(text, want) {
					t.Errorf("got error %q, want %q in it", text, want)
				}
			}
			if !tt.late {
				c.checkUntouched(t)
			}
		})
	}
}

// errorLines are the log's annotations of kind error.
func errorLines(log string) []string {
	var lines []string
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "::error") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// checkUntouched fails if anything was written to the account.
func (c *cloud) checkUntouched(t *testing.T) {
	t.Helper()
	for _, call := range c.Calls() {
		writes := call.Service == "ecs" && (call.Action == "RegisterTaskDefinition" || call.Action == "UpdateService") ||
			call.Service == "registry" && call.Action == "PUT manifest"
		if writes && call.Status < 300 {
			t.Errorf("%s %s was called", call.Service, call.Action)
		}
	}
}

// A cancelled job has 7.5 seconds between SIGINT and SIGTERM; Towline takes 5 at most.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		dockerfile string
		moment     func(*cloud, *step) bool
		late       bool
	}{
		"while building": {
			dockerfile: "FROM busybox:1\nRUN echo $((40+2)) is the answer && sleep 600\n",
			moment:     func(_ *cloud, s *step) bool { return strings.Contains(s.log.String(), "42 is the answer") },
		},
		"while waiting": {
			dockerfile: works,
			moment:     func(c *cloud, _ *step) bool { return len(c.Called("ecs", "DescribeServiceDeployments")) > 0 },
			late:       true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := requireEngine(t)
			c := newCloud(t, e)
			c.Behave(func(emulator.TaskInfo) emulator.Behaviour { return emulator.Behaviour{StartDelay: time.Hour} })
			s := e.start(t, c.job(e, write(t, map[string]string{"Dockerfile": tt.dockerfile}), nil))
			r, took := s.interrupt(t, func() bool { return tt.moment(c, s) })
			if took > 5*time.Second {
				t.Errorf("ended %s after SIGINT, want at most 5s", took)
			}
			if r.Code != 1 {
				t.Errorf("got exit code %d, want 1", r.Code)
			}
			errors := errorLines(r.Log)
			if len(errors) != 1 || !strings.Contains(fmt.Sprint(errors), "cancel") {
				t.Errorf("got errors %q, want one that says the job was cancelled", errors)
			}
			if !tt.late {
				c.checkUntouched(t)
				return
			}
			if id := r.Outputs["deployment-id"]; id == "" || !strings.Contains(fmt.Sprint(errors), id) {
				t.Errorf("got deployment-id %q, want the error to name it: %q", id, errors)
			}
		})
	}
}
