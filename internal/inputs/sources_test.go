package inputs

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testKey = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc,def=\n-----END OPENSSH PRIVATE KEY-----"

func parseSources(set values, env map[string]string) (Settings, error) {
	return Parse(func(name string) string { return set[name] }, func(name string) string {
		if name == "GITHUB_WORKSPACE" {
			return "/w"
		}
		return env[name]
	})
}

func TestContexts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		set           values
		context, file string
		inside        bool
	}{
		"git":            {set: values{"context": "https://github.com/o/r.git#main:sub"}, context: "https://github.com/o/r.git#main:sub", file: "Dockerfile", inside: true},
		"git, file":      {set: values{"context": "git@github.com:o/r.git", "file": "docker/Dockerfile"}, context: "git@github.com:o/r.git", file: "docker/Dockerfile", inside: true},
		"tar at a URL":   {set: values{"context": "https://h/a.tgz"}, context: "https://h/a.tgz", file: "Dockerfile", inside: true},
		"tar":            {set: values{"context": "out/ctx.tar.gz", "file": "x"}, context: "/w/out/ctx.tar.gz", file: "x", inside: true},
		"folder of dots": {set: values{"context": "./a.b"}, context: "/w/a.b", file: "/w/a.b/Dockerfile"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := parseSources(test.set, nil)
			if err != nil {
				t.Fatal(err)
			}
			b := s.Build
			if b.Context != test.context || b.File != test.file || b.ContextHoldsFile != test.inside {
				t.Errorf("got %s, %s, %v", b.Context, b.File, b.ContextHoldsFile)
			}
		})
	}
}

func TestNamedContextsAndTokens(t *testing.T) {
	t.Parallel()
	s, err := parseSources(values{
		"build-contexts": "a=../x\nb=docker-image://alpine:3\nc=oci-layout://out/img:v1\nd=https://h/r.git#v1\ne=oci-layout:///abs@sha256:1",
		"github-token":   "ghs_secret", "context": "https://me:hidden@h/r.git",
	}, map[string]string{"GITHUB_SERVER_URL": "https://ghe.example:8443"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "/x", "b": "docker-image://alpine:3", "c": "oci-layout:///w/out/img:v1", "d": "https://h/r.git#v1", "e": "oci-layout:///abs@sha256:1"}
	if diff := cmp.Diff(s.Build.Contexts, want); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
	if s.Build.GitHubToken != "ghs_secret" || s.Build.GitHubHost != "ghe.example:8443" {
		t.Errorf("token %q for %q", s.Build.GitHubToken, s.Build.GitHubHost)
	}
	if got := s.Build.ContextName(); got != "https://h/r.git" {
		t.Errorf("shown as %s", got)
	}
	masked := strings.Join(s.Secrets(), " ")
	if !strings.Contains(masked, "ghs_secret") || !strings.Contains(masked, "hidden") {
		t.Errorf("masked: %s", masked)
	}
	s, err = parseSources(values{"github-token": "${{ github.token }}"}, nil)
	if err != nil || s.Build.GitHubToken != "" || s.Build.GitHubHost != "github.com" {
		t.Errorf("without a runner: token %q for %q, %v", s.Build.GitHubToken, s.Build.GitHubHost, err)
	}
}

func TestSSH(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "key")
	if err := os.WriteFile(file, []byte(testKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "sock")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Skipf("no socket in %s: %v", dir, err)
	}
	defer listener.Close() //nolint:errcheck // the test's own
	s, err := parseSources(values{"ssh": "default, other=" + file + "," + file + "\nagent=" + socket + "\n\"held=" + testKey + "\""}, map[string]string{"SSH_AUTH_SOCK": "/run/agent"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ReadSecretFiles(); err != nil {
		t.Fatal(err)
	}
	key := []byte(testKey + "\n")
	want := map[string]SSHKeys{"default": {Socket: "/run/agent"}, "other": {Keys: [][]byte{key, key}}, "agent": {Socket: socket}, "held": {Keys: [][]byte{key}}}
	if diff := cmp.Diff(s.Build.SSH, want); diff != "" {
		t.Errorf("got -, want +:\n%s", diff)
	}
	for set, want := range map[string]string{
		"default": "SSH_AUTH_SOCK", "default=": "is empty", "=x": "does not begin with an ID", "x=" + dir + "/none": "no such file", "x=/dev/null": "neither a private key",
	} {
		s, err := parseSources(values{"ssh": set}, nil)
		if err == nil {
			err = s.ReadSecretFiles()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", set, err, want)
		}
	}
	if _, err := parseSources(values{"ssh": "hidden value=" + testKey}, nil); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("error %v", err)
	}
}

func TestSourceMistakes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		set  values
		want string
	}{
		"scheme":   {values{"context": "file:///etc"}, "not a context"},
		"password": {values{"context": "ftp://me:hidden@h/x"}, "not a context"},
		"target":   {values{"build-contexts": "a=target:b"}, "bake"},
		"empty":    {values{"build-contexts": "a="}, "is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := parseSources(test.set, nil); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hidden") {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}
