package sandbox

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// unfit skips a test for which this machine lacks something, and fails it in CI.
func unfit(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("TOWLINE_CI") == "1" { //nolint:forbidigo // the switch for tests that must not be skipped
		t.Fatal(why)
	}
	t.Skip(why)
}

// busybox makes a small root filesystem from the machine's static busybox.
func busybox(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		unfit(t, "needs root")
	}
	const machine = "/bin/busybox"
	if _, err := os.Stat(machine); err != nil {
		unfit(t, "needs a static busybox at /bin/busybox: "+err.Error())
	}
	root := filepath.Join(t.TempDir(), "root")
	for _, dir := range []string{"bin", "etc", "tmp", "root", "home/app", "var/lib"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(machine)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close() //nolint:errcheck // read only
	out, err := os.OpenFile(filepath.Join(root, "bin/busybox"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(applets) {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, root, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
	write(t, root, "etc/group", "root:x:0:\napp:x:1000:\nextra:x:2000:app\nmore:x:2001:app,root\n")
	return root
}

const applets = "sh cat ls id echo mkdir rm mv touch ln env hostname ip wc sleep setsid kill chmod chown stat test dd ps head grep find sync true false nc ulimit mount umount date pwd tr readlink sed sort tail unshare"

func write(t *testing.T, root, name, content string) {
	t.Helper()
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// sh runs script in root and gives what it wrote.
func sh(t *testing.T, s Sandbox, root, script string, p Process, mounts ...Mount) (string, error) {
	t.Helper()
	var out bytes.Buffer
	p.Args = []string{"/bin/sh", "-c", script}
	p.Stdout, p.Stderr = &out, &out
	if p.Env == nil {
		p.Env = []string{"PATH=/bin"}
	}
	_, err := s.Run(t.Context(), root, p, mounts)
	return out.String(), err
}

func exitCode(err error) int {
	if exit, ok := errors.AsType[*ExitError](err); ok {
		return exit.Code
	}
	if err != nil {
		return -1
	}
	return 0
}
