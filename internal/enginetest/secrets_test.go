package enginetest

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	buildSecret      = "build-secret/of the+engine tests=42"
	registryPassword = "registry-password/of the+engine tests=43"
)

// No secret is left anywhere by a whole deployment with debugging on: not in what
// a RUN can read of any process, not in the log beyond the masks themselves, the
// image, the runner's files, the workspace, or the stopped container.
func TestSecrets(t *testing.T) {
	t.Parallel()
	e := requireEngine(t)
	c := newCloud(t, e)
	workspace := write(t, map[string]string{"Dockerfile": `FROM busybox:1
RUN --mount=type=secret,id=token test -s /run/secrets/token
RUN --mount=type=secret,id=token,env=TOKEN test -n "$TOKEN"
RUN mkdir /leak; env > /leak/env; \
    for p in /proc/[0-9]*; do for f in environ cmdline; do cat $p/$f >> /leak/$f 2>/dev/null || true; done; done; \
    cat /proc/1/mem > /leak/mem 2>/dev/null || true
`})
	j := c.job(e, workspace, map[string]string{"secrets": "token=" + buildSecret, "registry-credentials": "registry.example.invalid=robot:" + registryPassword})
	maps.Copy(j.Env, map[string]string{"RUNNER_DEBUG": "1", "ACTIONS_STEP_DEBUG": "true"})
	j.Keep = true
	s := e.start(t, j)
	r := s.wait(t)
	if r.Code != 0 {
		t.Fatalf("got exit code %d, want 0", r.Code)
	}
	log, secrets := unmasked(r.Log)
	for _, kind := range []string{`^eyJ`, `^ASIA`, `^IQoJ`, `^[0-9a-f]{40}$`, `^[0-9a-f]{128}$`} {
		if !slices.ContainsFunc(secrets, regexp.MustCompile(kind).MatchString) {
			t.Errorf("no mask is like %s: the test would not notice such a secret", kind)
		}
	}
	_, request := c.IDTokenRequest(c.url)
	for _, given := range []string{buildSecret, registryPassword} {
		if !slices.Contains(secrets, given) {
			t.Errorf("%q is not masked", given)
		}
	}
	needles := forms(append(secrets, request, runtimeToken))
	look := func(where string, content []byte) {
		t.Helper()
		for needle, what := range needles {
			if bytes.Contains(content, []byte(needle)) {
				t.Errorf("%s holds %s", where, what)
			}
		}
	}
	look("the log", []byte(log))
	look("the summary", []byte(r.Summary))
	look("GITHUB_ENV", []byte(r.Env))
	for name, value := range r.Outputs {
		look("output "+name, []byte(value))
	}
	img := c.image(t, r.Outputs["image"])
	for name, content := range contents(t, img, "") {
		look("the image's "+name, []byte(content))
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	look("the image's config", config)
	lookInFolder(t, filepath.Dir(filepath.Dir(workspace)), look)
	if n := lookInContainer(t, s.name, look); n < 5 {
		t.Errorf("the container has %d files: the test looks at nothing", n)
	}
}

// unmasked takes the masks out of a log: the runner shows none of them.
func unmasked(log string) (rest string, secrets []string) {
	var b strings.Builder
	for line := range strings.Lines(log) {
		secret, masks := strings.CutPrefix(line, "::add-mask::")
		if !masks {
			b.WriteString(line)
			continue
		}
		secrets = append(secrets, strings.NewReplacer("%0D", "\r", "%0A", "\n", "%25", "%").Replace(strings.TrimSuffix(secret, "\n")))
	}
	return b.String(), secrets
}

// forms are the ways in which secrets could be written, by what they are.
func forms(secrets []string) map[string]string {
	needles := map[string]string{}
	for i, secret := range secrets {
		if len(secret) < 12 {
			continue // an account's number is no secret, and stands in every ARN
		}
		name := "secret " + string(rune('A'+i%26)) + " (" + secret[:4] + "...)"
		needles[secret] = name
		needles[url.QueryEscape(secret)] = name + ", URL-encoded"
		needles[url.PathEscape(secret)] = name + ", URL-encoded"
		for _, prefix := range []string{"", "a", "ab"} {
			// What stands before it shifts it; the characters at both ends are shared.
			encoded := base64.RawStdEncoding.EncodeToString([]byte(prefix + secret))
			needles[encoded[min(4, len(prefix)*4):len(encoded)-3]] = name + ", in base64"
		}
	}
	return needles
}

// The forms are found wherever they stand in what holds them.
func TestForms(t *testing.T) {
	t.Parallel()
	const secret = "a secret/with+signs=?"
	holders := map[string]string{"plain": "x" + secret, "query": "k=" + url.QueryEscape(secret), "path": "/" + url.PathEscape(secret)}
	for _, before := range []string{"", "x", "xy", "AWS:"} {
		holders["base64 after "+before] = base64.StdEncoding.EncodeToString([]byte(before + secret + "\n"))
	}
	for name, holder := range holders {
		found := false
		for needle := range forms([]string{secret}) {
			found = found || strings.Contains(holder, needle)
		}
		if !found {
			t.Errorf("%s: the secret is not found in %q", name, holder)
		}
	}
}

// lookInFolder looks at what is left on the host: runner's files and workspace.
func lookInFolder(t *testing.T, root string, look func(string, []byte)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		look(path, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// lookInContainer looks at every file of a stopped container.
func lookInContainer(t *testing.T, name string, look func(string, []byte)) (files int) {
	t.Helper()
	export := exec.CommandContext(t.Context(), "docker", "export", name)
	out, err := export.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := export.Start(); err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(out)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files++
		look("the container's "+header.Name, content)
	}
	if err := export.Wait(); err != nil {
		t.Fatal(err)
	}
	return files
}
