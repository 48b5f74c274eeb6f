//go:build linux

package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/imagetest"
)

// killDockerfile pulls, copies, runs side by side with all kinds of mounts, leaves a
// process running, and commits hundreds of files.
const killDockerfile = `FROM base AS one
RUN --mount=type=bind,target=/context,rw --mount=type=cache,target=/cache --mount=type=tmpfs,target=/scratch \
    setsid sleep 1000 & cd /out && i=0; while [ $i -lt 200 ]; do echo $i > file-$i; i=$((i+1)); done; \
    echo changed > /context/kept; echo x > /cache/x; echo x > /scratch/x
RUN rm -r /many && dd if=/dev/urandom of=/out/large bs=1024 count=2048

FROM base AS two
RUN cp -r /many /out/again && sleep 0.3

FROM base
COPY --from=one /out /one
COPY --from=two /out /two
COPY kept /kept
RUN ln /one/large /linked && chmod -R go-w /two
`

// TestKilled kills the program at random moments of a build in namespaces. Whenever
// that is, the machine is as before: nothing is mounted, no process is left, nothing
// was written outside the program's temporary folders, and the next run works and
// removes what the killed one left there. TOWLINE_SEED chooses other moments.
func TestKilled(t *testing.T) {
	if environ("TOWLINE_CI") != "1" {
		t.Skip("kills builds for half a minute, so it runs with TOWLINE_CI=1")
	}
	if os.Geteuid() != 0 {
		t.Fatal("wants root")
	}
	k := newKilled(t)
	begun := time.Now()
	k.complete(t)
	k.complete(t) // The first may have had to warm up.
	whole := time.Since(begun) / 2
	seed := uint64(1)
	if text := environ("TOWLINE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	random := rand.New(rand.NewPCG(seed, 0))
	before := k.outside(t)
	rounds, left := 0, 0
	for ; rounds < 5 || rounds < 40 && time.Since(begun) < 25*time.Second; rounds++ {
		at := time.Duration(random.Int64N(int64(whole)))
		said := k.kill(t, at)
		k.check(t, fmt.Sprintf("seed %d, round %d, killed after %s, when it had said:\n%s", seed, rounds, at, tail(said, 5)), before)
		left += len(k.temporary(t))
		if rounds%3 == 0 || t.Failed() {
			k.complete(t)
		}
		if t.Failed() {
			return
		}
	}
	k.complete(t)
	k.check(t, "at the end", before)
	t.Logf("a run takes %s; killed %d times, folders left %d", whole.Round(time.Millisecond), rounds, left)
}

// killed is the program and the world that it is killed in.
type killed struct{ program, folder, temp string }

func newKilled(t *testing.T) killed {
	t.Helper()
	k := killed{program: filepath.Join(t.TempDir(), "towline"), folder: t.TempDir(), temp: filepath.Join(t.TempDir(), "temporary")}
	make := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", k.program, ".")
	make.Dir = filepath.Join("..", "..")
	make.Env = append(make.Environ(), "CGO_ENABLED=0")
	if _, err := output(make); err != nil {
		t.Fatal(err)
	}
	host, stop, err := serve("127.0.0.1", func(string) http.Handler {
		return registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	tag, err := name.NewTag(host + "/library/base:latest")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, killBase(t)); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		"Dockerfile": killDockerfile,
		"kept":       "kept\n",
		"workflow.yml": "jobs:\n  deploy:\n    steps:\n      - uses: towline/towline@v1\n        with:\n" +
			"          repository: rehearsal\n          sandbox: namespaces\n          aws-region: eu-central-1\n          role-to-assume: arn:aws:iam::111122223333:role/deploy\n" +
			"          registry-mirrors: docker.io=" + host + "\n",
	} {
		if err := os.WriteFile(filepath.Join(k.folder, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(k.temp, 0o700); err != nil {
		t.Fatal(err)
	}
	return k
}

// killBase is an image with this machine's busybox, and a second layer of many files.
func killBase(t *testing.T) v1.Image {
	t.Helper()
	binary, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("TOWLINE_CI=1 wants a static busybox: %v", err)
	}
	tools := []imagetest.Entry{imagetest.Folder("bin"), imagetest.File("bin/busybox", string(binary)).Mode(0o755), imagetest.Folder("out")}
	for _, tool := range []string{"sh", "sleep", "setsid", "rm", "dd", "cp", "ln", "chmod"} {
		tools = append(tools, imagetest.Symlink("bin/"+tool, "busybox"))
	}
	many := []imagetest.Entry{imagetest.Folder("many")}
	for i := range 300 {
		many = append(many, imagetest.File(fmt.Sprintf("many/file-%d", i), strings.Repeat("content ", 200)))
	}
	image := empty.Image
	for _, entries := range [][]imagetest.Entry{tools, many} {
		var b bytes.Buffer
		if err = imagetest.WriteTar(&b, entries); err != nil {
			t.Fatal(err)
		}
		layer, layerErr := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
		if layerErr != nil {
			t.Fatal(layerErr)
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			t.Fatal(err)
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.Env = []string{"PATH=/bin"}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	return image
}

func (k killed) command(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, k.program, "rehearse", "--workflow", filepath.Join(k.folder, "workflow.yml"), k.folder)
	cmd.Env = []string{"PATH=" + environ("PATH"), "TMPDIR=" + k.temp}
	return cmd
}

// complete runs to the end, which leaves nothing behind, of earlier runs neither.
func (k killed) complete(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Minute, errors.New("the run did not end"))
	defer cancel()
	if _, err := output(k.command(ctx)); err != nil {
		t.Fatalf("a run: %v", err)
	}
	if left := k.temporary(t); len(left) > 0 {
		t.Errorf("a complete run left %v", left)
	}
}

// kill runs for some time, and gives what the program wrote until then.
func (k killed) kill(t *testing.T, after time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), after) //nolint:forbidigo // being killed is the point
	defer cancel()
	cmd := k.command(ctx)
	out, err := os.CreateTemp(t.TempDir(), "log-")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() //nolint:errcheck // read by its name
	cmd.Stdout, cmd.Stderr = out, out
	_ = cmd.Run() // Killed, or done before.
	said, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}

// temporary lists what is in the folder for temporary files.
func (k killed) temporary(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(k.temp)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// check holds that the machine is as before.
func (k killed) check(t *testing.T, when string, before map[string]string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), k.temp) {
		t.Errorf("%s\nmounts are left:\n%s", when, mounts)
	}
	// The kernel takes a moment to end the processes of a namespace.
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, errors.New("processes are left"))
	defer cancel()
	if err := poll(ctx, func() bool { return len(k.processes()) == 0 }); err != nil {
		t.Errorf("%s\n%v: %v", when, err, k.processes())
	}
	if diff := cmp.Diff(k.outside(t), before); diff != "" {
		t.Errorf("%s\nfiles outside (-got +want):\n%s", when, diff)
	}
	for _, name := range k.temporary(t) {
		if !strings.HasPrefix(name, "towline-step-") && !strings.HasPrefix(name, "towline-rehearsal-") {
			t.Errorf("%s\nleft: %s", when, name)
		}
	}
}

// processes lists those that were started with the program's folder, or see a mount of it.
func (k killed) processes() []string {
	var found []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		if filepath.Base(dir) == strconv.Itoa(os.Getpid()) {
			continue
		}
		for _, file := range []string{"cmdline", "environ", "mountinfo"} {
			if content, err := os.ReadFile(filepath.Join(dir, file)); err == nil && (bytes.Contains(content, []byte(k.temp)) || bytes.Contains(content, []byte(k.program))) {
				cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
				found = append(found, fmt.Sprintf("%s %q", dir, cmdline))
				break
			}
		}
	}
	return found
}

// outside describes files that a build sees or could be tempted to write.
func (k killed) outside(t *testing.T) map[string]string {
	t.Helper()
	state := map[string]string{}
	paths := []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/passwd", "/etc/group", "/bin/busybox", "/dev/null", "/dev/zero"}
	err := filepath.WalkDir(k.folder, func(path string, _ os.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			state[path] = err.Error()
			continue
		}
		state[path] = fmt.Sprintf("%o %d:%d %d %d", st.Mode, st.Uid, st.Gid, st.Size, st.Ino)
		if !strings.HasPrefix(path, "/dev/") {
			state[path] += fmt.Sprintf(" %d.%09d", st.Ctim.Sec, st.Ctim.Nsec)
		}
	}
	if host, err := os.Hostname(); err == nil {
		state["hostname"] = host
	}
	return state
}
