package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// try runs a process in the best sandbox that there is.
func (e *entered) try(root string) {
	s, warning, err := Choose(context.Background(), Auto, Options{StateDir: filepath.Dir(root)})
	e.Warning = warning
	if err != nil {
		e.Error = err.Error()
		return
	}
	var out bytes.Buffer
	e.Sandbox = s.Name()
	_, err = s.Run(context.Background(), root, Process{Args: []string{"sh", "-c", "id -u; touch /new"}, Env: []string{"PATH=/bin"}, Stdout: &out, Stderr: &out}, nil)
	if err != nil {
		e.Error = err.Error()
	}
	e.Output = out.String()
}

func runEnter(t *testing.T, root string, attr *syscall.SysProcAttr) entered {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Where another user may execute it.
	file := filepath.Join(filepath.Dir(root), "program")
	// Nothing is forked meanwhile: what another test starts would hold the file open
	// for writing until it executes, and an open file cannot be executed (ETXTBSY).
	syscall.ForkLock.RLock()
	err = copyTree(file, self)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), file, enterTest, root)
	cmd.Env = []string{"SECRET=" + secret, "STRANGE=\xff\n=x", "PATH=/bin"}
	cmd.SysProcAttr = attr
	cmd.Dir = "/"
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 42 {
		t.Fatalf("got %v, want exit code 42\n%s%s", err, out, stderr.String())
	}
	var e entered
	if err := json.Unmarshal(out, &e); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if e.Entry.Warning != "" || e.Entry.Executable != file {
		t.Errorf("entry: %+v", e.Entry)
	}
	if !slices.Contains(e.Entry.Environ, "SECRET="+secret) || len(e.Entry.Environ) != 3 {
		t.Errorf("environment: %q", e.Entry.Environ)
	}
	if e.Kernel != "" {
		t.Errorf("the kernel shows %q", e.Kernel)
	}
	if e.Dumpable != 0 {
		t.Errorf("dumpable is %d", e.Dumpable)
	}
	if !strings.HasPrefix(e.Exe, "/memfd:towline") {
		t.Errorf("running from %s", e.Exe)
	}
	for _, open := range e.Files {
		if strings.Contains(open, "memfd") {
			t.Errorf("still open: %s", open)
		}
	}
	return e
}

func TestEnterAsRoot(t *testing.T) {
	t.Parallel()
	root := busybox(t)
	e := runEnter(t, root, nil)
	if outer, err := os.Readlink("/proc/self/ns/mnt"); err != nil || outer == e.Mounts {
		t.Errorf("the mount namespace is the machine's: %s %v", e.Mounts, err)
	}
	want := entered{Sandbox: "namespaces", Output: "0\n"}
	if diff := cmp.Diff(want, entered{Sandbox: e.Sandbox, Output: e.Output, Error: e.Error, Warning: e.Warning}); diff != "" {
		t.Errorf("sandbox (-want +got):\n%s", diff)
	}
}

func TestEnterAsUser(t *testing.T) {
	t.Parallel()
	root := busybox(t)
	const user = 12345
	err := filepath.WalkDir(filepath.Dir(root), func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, user, user))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err = os.Chmod(filepath.Dir(filepath.Dir(root)), 0o755); err != nil {
		t.Fatal(err)
	}
	e := runEnter(t, root, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}})
	if e.UID != 0 {
		unfit(t, "no user namespaces: "+e.Error)
	}
	want := entered{Sandbox: "namespaces", Output: "0\n"}
	if diff := cmp.Diff(want, entered{Sandbox: e.Sandbox, Output: e.Output, Error: e.Error, Warning: e.Warning}); diff != "" {
		t.Errorf("sandbox (-want +got):\n%s", diff)
	}
	info, err := os.Stat(filepath.Join(root, "new"))
	if err != nil {
		t.Fatal(err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != user {
		t.Errorf("made by %v", info.Sys())
	}
}
