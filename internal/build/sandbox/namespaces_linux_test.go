package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testNamespaces(t *testing.T) Sandbox {
	t.Helper()
	if os.Geteuid() != 0 {
		unfit(t, "needs root")
	}
	s, warning, err := Choose(t.Context(), Namespaces, Options{StateDir: t.TempDir()})
	if err != nil {
		unfit(t, err.Error())
	}
	if warning != "" {
		t.Errorf("warning: %s", warning)
	}
	return s
}

func TestNamespacesProcess(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		script  string
		process Process
		want    string
		code    int
	}{
		"root":                 {script: "id", want: "uid=0(root) gid=0(root) groups=0(root),2001(more)\n"},
		"user by name":         {script: "id; echo $HOME", process: Process{User: "app"}, want: "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra),2001(more)\n/home/app\n"},
		"user with a group":    {script: "id", process: Process{User: "app:extra"}, want: "uid=1000(app) gid=2000(extra) groups=2000(extra)\n"},
		"user by number":       {script: "id; echo $HOME", process: Process{User: "77:88"}, want: "uid=77 gid=88 groups=88\n/\n"},
		"home of its own":      {script: "echo $HOME", process: Process{Env: []string{"PATH=/bin", "HOME=/mine"}}, want: "/mine\n"},
		"no other environment": {script: "env | sed s/=.*// | sort | tr '\n' ' '", want: "HOME PATH PWD SHLVL "},
		"working directory":    {script: "pwd; stat -c %a:%u .", process: Process{Cwd: "/made/for/it", User: "app"}, want: "/made/for/it\n755:1000\n"},
		"hostname":             {script: "hostname; grep -c box1 /etc/hosts", process: Process{Hostname: "box1"}, want: "box1\n1\n"},
		"default hostname":     {script: "hostname", want: "buildkitsandbox\n"},
		"extra hosts":          {script: "tail -n 1 /etc/hosts", process: Process{ExtraHosts: []HostIP{{Host: "db", IP: "10.0.0.9"}}}, want: "10.0.0.9\tdb\n"},
		"ulimit":               {script: "ulimit -Sn; ulimit -Hn", process: Process{Ulimits: []Ulimit{{"nofile", 100, 200}}}, want: "100\n200\n"},
		"Docker's capabilities": {
			script: "grep -h -e CapPrm -e CapBnd /proc/self/status", want: "CapPrm:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\n",
		},
		"no capabilities of a user": {script: "grep CapPrm /proc/self/status", process: Process{User: "app"}, want: "CapPrm:\t0000000000000000\n"},
		"no new mounts":             {script: "mount -t tmpfs x /tmp 2>&1; unshare -m true 2>&1; true", want: "mount: permission denied (are you root?)\nunshare: unshare(0x20000): Operation not permitted\n"},
		"loopback only":             {script: "ip -o link | wc -l; ip -o addr | grep -c 127.0.0.1", process: Process{Network: NetworkNone}, want: "1\n1\n"},
		"own processes only":        {script: "set -- /proc/[0-9]*; echo $#", want: "2\n"}, // init and the shell
		"its own output":            {script: "echo x >/dev/stdout; readlink /proc/self/fd/0", process: Process{User: "app"}, want: "x\n/dev/null\n"},
		"no more open files":        {script: "ls /proc/self/fd", want: "0\n1\n2\n3\n"},
		"hosts is read-only":        {script: "echo x 2>/dev/null >>/etc/hosts || echo refused", want: "refused\n"},
		"sysctl is read-only":       {script: "echo x 2>/dev/null >/proc/sys/kernel/core_pattern || echo refused", want: "refused\n"},
		"init keeps to itself":      {script: "cat /proc/1/environ 2>&1 || readlink /proc/1/exe || cat /proc/1/mem 2>&1", want: "cat: can't open '/proc/1/environ': Permission denied\ncat: can't open '/proc/1/mem': Permission denied\n", code: 1},
		"exit code":                 {script: "exit 3", code: 3},
		"killed":                    {script: "kill -9 $$", code: 137},
		"leaves nothing running":    {script: "setsid sleep 1000 & sleep 1001 & echo done", want: "done\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := sh(t, testNamespaces(t), busybox(t), tt.script, tt.process)
			if exitCode(err) != tt.code {
				t.Errorf("got %v, want exit code %d", err, tt.code)
			}
			if out != tt.want {
				t.Errorf("got %q, want %q", out, tt.want)
			}
		})
	}
}

func TestNamespacesMounts(t *testing.T) {
	t.Parallel()
	s, root, sources := testNamespaces(t), busybox(t), t.TempDir()
	write(t, sources, "cache/file", "cached\n")
	write(t, sources, "ro/file", "fixed\n")
	write(t, root, "var/lib/data/below", "original\n")
	write(t, root, "secret", "below\n")
	if err := os.Symlink("/../../../var/lib/data", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	out, err := sh(t, s, root, `cat /link/file; echo more >>/var/lib/data/file
cat /ro/deep/file; touch /ro/deep/x 2>/dev/null || echo read-only
cat /run/secrets/s /secret; stat -c %a:%u:%g /run/secrets/s; echo
stat -c %a /scratch /tmp; dd if=/dev/zero of=/scratch/big bs=1k count=2048 2>/dev/null || echo full
cat /dev/pipes/script; ls /dev/shm`,
		Process{RemoveStubsRecursive: true},
		Mount{Dest: "/dev/pipes/script", Source: filepath.Join(sources, "ro/file")},
		Mount{Dest: "/link", Source: filepath.Join(sources, "cache")},
		Mount{Dest: "/ro/deep", Source: filepath.Join(sources, "ro"), ReadOnly: true},
		Mount{Dest: "/run/secrets/s", IsSecret: true, Secret: []byte("of the build"), Mode: 0o400, UID: 1000, GID: 1001},
		Mount{Dest: "/secret", IsSecret: true, Secret: []byte("over a file")},
		Mount{Dest: "/scratch", Tmpfs: true, Size: 1 << 20},
		Mount{Dest: "/tmp", Tmpfs: true},
		Mount{Dest: "/dev/shm", Tmpfs: true, Size: 1 << 20})
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff("cached\nfixed\nread-only\nof the buildover a file400:1000:1001\n\n1777\n1777\nfull\nfixed\n", out); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if got := read(t, filepath.Join(sources, "cache/file")); got != "cached\nmore\n" {
		t.Errorf("cache: %q", got)
	}
	if got := read(t, filepath.Join(root, "secret")); got != "below\n" {
		t.Errorf("what the secret covered: %q", got)
	}
	want := []string{"bin", "dev", "etc", "home", "link", "proc", "root", "secret", "sys", "tmp", "var"}
	if diff := cmp.Diff(want, list(t, root)); diff != "" {
		t.Errorf("root filesystem (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"group", "passwd"}, list(t, filepath.Join(root, "etc"))); diff != "" {
		t.Errorf("/etc (-want +got):\n%s", diff)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// Links in a root filesystem are the image's: they must not lead out of it.
func TestNamespacesLinks(t *testing.T) {
	t.Parallel()
	s, root, outside, source := testNamespaces(t), busybox(t), t.TempDir(), t.TempDir()
	for _, link := range []string{"proc", "sys", "dev", "run", "evil"} {
		if err := os.Symlink(outside, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(outside, "resolv.conf"), filepath.Join(root, "etc/resolv.conf")); err != nil {
		t.Fatal(err)
	}
	out, err := sh(t, s, root, "test -c /dev/null; ls /evil", Process{RemoveStubsRecursive: true},
		Mount{Dest: "/evil/deep", Source: source}, Mount{Dest: "/run/secrets/s", IsSecret: true})
	t.Log(out, err)
	if got := list(t, outside); len(got) > 0 {
		t.Errorf("made outside of the root filesystem: %v", got)
	}
}

func TestNamespacesCancel(t *testing.T) {
	t.Parallel()
	s, root := testNamespaces(t), busybox(t)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	out := writerFunc(func(b []byte) (int, error) {
		cancel(why)
		return len(b), nil
	})
	_, err := s.Run(ctx, root, Process{Args: []string{"/bin/sh", "-c", "echo up; setsid sleep 1000"}, Stdout: out}, nil)
	if !errors.Is(err, why) {
		t.Errorf("got %v, want %v", err, why)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestNamespacesOverlay(t *testing.T) {
	t.Parallel()
	s, lower, dir := testNamespaces(t), busybox(t), t.TempDir()
	if ok, userxattr := CanOverlay(dir); !ok || userxattr {
		unfit(t, "no overlays here")
	}
	lowers := []string{}
	for i := range 120 { // far more than a page of options holds
		name := strings.Repeat("long", 20) + string(rune('a'+i%26)) + string(rune('a'+i/26))
		write(t, dir, filepath.Join("lowers", name, "file"), name)
		lowers = append(lowers, filepath.Join(dir, "lowers", name))
	}
	sub := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"upper", "work", "merged"} {
		if err := os.Mkdir(sub(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, mount := range []func(string, []string, []option) error{overlayByFsopen, overlayByMount} {
		if err := mount(sub("merged"), append(lowers, lower), overlayOptions(sub("upper"), sub("work"), false)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, sub("merged/file")); got != filepath.Base(lowers[0]) {
			t.Errorf("not the topmost: %s", got)
		}
		if err := Unmount(sub("merged")); err != nil {
			t.Fatal(err)
		}
	}
	if err := MountOverlay(sub("merged"), sub("upper"), sub("work"), []string{lower}, false); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := Unmount(sub("merged")); err != nil {
			t.Error(err)
		}
	}()
	if out, err := sh(t, s, sub("merged"), "echo x >/new; rm /etc/passwd", Process{}); err != nil {
		t.Fatal(out, err)
	}
	got := list(t, sub("upper"))
	if !slices.Contains(got, "new") {
		t.Errorf("upper folder: %v", got)
	}
	info, err := os.Lstat(sub("upper/etc/passwd"))
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("no whiteout: %v %v", info, err)
	}
	if diff := cmp.Diff([]string{"passwd"}, list(t, sub("upper/etc"))); diff != "" {
		t.Errorf("/etc in the upper folder (-want +got):\n%s", diff)
	}
}

func TestMountOverlayReadOnly(t *testing.T) {
	t.Parallel()
	testNamespaces(t)
	dir := t.TempDir()
	write(t, dir, "a/file", "a")
	write(t, dir, "b/other", "b")
	sub := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Mkdir(sub("merged"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, lowers := range [][]string{{sub("a")}, {sub("a"), sub("b")}} {
		if err := MountOverlay(sub("merged"), "", "", lowers, false); err != nil {
			t.Fatal(err)
		}
		if got := read(t, sub("merged/file")); got != "a" {
			t.Errorf("got %s", got)
		}
		if err := os.WriteFile(sub("merged/x"), nil, 0o644); err == nil {
			t.Errorf("%d lower folders: written to a read-only overlay", len(lowers))
		}
		if err := Unmount(sub("merged")); err != nil {
			t.Fatal(err)
		}
	}
	if err := MountOverlay(sub("merged"), "", "", nil, false); err == nil {
		t.Error("mounted nothing")
	}
}
