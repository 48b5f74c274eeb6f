package step_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// The secrets of a step are in nothing that a RUN in namespaces can read, nor in
// the image, the log but for its masks, or the runner's files.
// TestSecrets of internal/enginetest looks at the same in place, and at all that
// is left in the container.
func TestSecretsInNamespaces(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("building keeps owners, which needs root")
	}
	const (
		buildSecret      = "build-secret/of the+step=42"
		registryPassword = "registry-password/of the+step=43"
	)
	dir := t.TempDir()
	workspace := filepath.Join(dir, "workspace")
	writeFile(t, filepath.Join(workspace, "Dockerfile"), []byte(`FROM registry.example.com/tools:1
RUN --mount=type=secret,id=token ["/bin/busybox", "test", "-s", "/run/secrets/token"]
RUN ["/bin/busybox", "sh", "-c", "b=/bin/busybox; $b mkdir /leak; $b env > /leak/env; for p in /proc/[0-9]*; do $b cat $p/environ $p/cmdline >> /leak/all 2>/dev/null || $b true; done"]
`))
	env := environment(dir, workspace)
	env["RUNNER_DEBUG"], env["ACTIONS_STEP_DEBUG"] = "1", "true"
	for input, value := range defaults() {
		env["INPUT_"+strings.ToUpper(input)] = value
	}
	env["INPUT_SECRETS"], env["INPUT_SANDBOX"] = "token="+buildSecret, "namespaces"
	env["INPUT_REGISTRY-CREDENTIALS"], env["INPUT_TAGS"] = "registry.example.com=robot:"+registryPassword, "v2\npublic.ecr.aws/acme/shop:v2"
	w := newWorld(t, env, "registry registry.example.com\nrepository {\"Name\": \"shop\", \"Alias\": \"acme\"}", "")
	w.others["registry.example.com"].push(t, "registry.example.com/tools:1", image(t, map[string]string{"bin/busybox*": static(t)}))
	if code := w.run(t); code != 0 {
		t.Fatalf("got exit code %d, want 0:\n%s", code, w.log.String())
	}
	var log strings.Builder
	needles := map[string]bool{}
	add := func(secret string) {
		if len(secret) >= 12 { // not an account's number
			needles[secret], needles[url.QueryEscape(secret)], needles[base64.StdEncoding.EncodeToString([]byte(secret))] = true, true, true
		}
	}
	var masked []string
	for line := range strings.Lines(w.log.String()) {
		if secret, masks := strings.CutPrefix(line, "::add-mask::"); masks {
			masked = append(masked, strings.TrimSpace(secret))
			add(strings.TrimSpace(secret))
			continue
		}
		log.WriteString(line)
	}
	for _, kind := range []string{`^eyJ`, `^ASIA`, `^IQoJ`, `^[0-9a-f]{40}$`, `^[0-9a-f]{128}$`, "^" + regexp.QuoteMeta(buildSecret) + "$", "^" + regexp.QuoteMeta(registryPassword) + "$"} {
		if !slices.ContainsFunc(masked, regexp.MustCompile(kind).MatchString) {
			t.Errorf("no mask is like %s: the test would not notice such a secret", kind)
		}
	}
	passwords := map[string]bool{}
	for _, mask := range masked {
		if regexp.MustCompile(`^[0-9a-f]{128}$`).MatchString(mask) {
			passwords[mask] = true
		}
	}
	if len(passwords) != 2 {
		t.Errorf("%d passwords of registries are masked, want ECR's and ECR Public's", len(passwords))
	}
	add(env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"])
	places := map[string][]byte{"log": []byte(log.String())}
	for _, file := range []string{"GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"} {
		content, err := os.ReadFile(env[file])
		if err != nil {
			t.Fatal(err)
		}
		places[file] = content
	}
	w.readImage(t, "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop:v2", places)
	seen := false
	for place, content := range places {
		seen = seen || strings.HasPrefix(place, "layer") && bytes.Contains(content, []byte("PATH=/bin\x00"))
		for needle := range needles {
			if bytes.Contains(content, []byte(needle)) {
				t.Errorf("%s holds the secret %q", place, needle)
			}
		}
	}
	if !seen {
		t.Error("the RUN has seen no environment at all, not even its own")
	}
}

// static is the machine's busybox.
func static(t *testing.T) string {
	t.Helper()
	busybox(t) // ends the test where there is none
	binary, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	return string(binary)
}

// readImage adds the parts of an image that was pushed.
func (w *world) readImage(t *testing.T, ref string, places map[string][]byte) {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(tag, remote.WithTransport(w.cloud.RoundTripper()), remote.WithContext(t.Context()), remote.WithAuth(w.login(t)))
	if err != nil {
		t.Fatal(err)
	}
	if places["config"], err = img.RawConfigFile(); err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range layers {
		places["layer "+string(rune('0'+i))] = unpacked(t, l)
	}
}

func unpacked(t *testing.T, l v1.Layer) []byte {
	t.Helper()
	rc, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	if err := rc.Close(); err != nil {
		t.Error(err)
	}
	return content
}

// login is what the account's registry takes.
func (w *world) login(t *testing.T) authn.Authenticator {
	t.Helper()
	client := ecr.New(ecr.Options{
		Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider(userKey, userSecret, ""),
		HTTPClient: &http.Client{Transport: w.cloud.RoundTripper()},
	})
	out, err := client.GetAuthorizationToken(t.Context(), &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	return authn.FromConfig(authn.AuthConfig{Auth: aws.ToString(out.AuthorizationData[0].AuthorizationToken)})
}
