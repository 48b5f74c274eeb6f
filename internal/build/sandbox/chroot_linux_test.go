package sandbox

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testChroot(t *testing.T) (s Sandbox, root string) {
	t.Helper()
	root = busybox(t)
	s, warning, err := Choose(t.Context(), Chroot, Options{StateDir: filepath.Dir(root)})
	if err != nil {
		unfit(t, err.Error())
	}
	if warning == "" || s.Name() != "chroot" {
		t.Errorf("%s: no warning", s.Name())
	}
	return s, root
}

func TestChrootProcess(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		script  string
		process Process
		want    string
		code    int
	}{
		"user":       {script: "id; echo $HOME", process: Process{User: "app"}, want: "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra),2001(more)\n/home/app\n"},
		"devices":    {script: "echo x >/dev/null; head -c 3 /dev/zero | wc -c; ls /dev", want: "3\nfull\nnull\nrandom\nshm\ntty\nurandom\nzero\n"},
		"hosts":      {script: "tail -n 1 /etc/hosts", process: Process{ExtraHosts: []HostIP{{Host: "db", IP: "10.0.0.9"}}}, want: "10.0.0.9\tdb\n"},
		"no network": {script: "nc 127.0.0.1 1 2>&1; true", process: Process{Network: NetworkNone}, want: "nc: socket: Address family not supported by protocol\n"},
		"exit code":  {script: "exit 3", code: 3},
		"killed":     {script: "kill -15 $$", code: 143},
		"folder":     {script: "pwd", process: Process{Cwd: "/made/here"}, want: "/made/here\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, root := testChroot(t)
			out, err := sh(t, s, root, tt.script, tt.process)
			if exitCode(err) != tt.code {
				t.Errorf("got %v, want exit code %d", err, tt.code)
			}
			if out != tt.want {
				t.Errorf("got %q, want %q", out, tt.want)
			}
			if diff := cmp.Diff([]string{"group", "passwd"}, list(t, filepath.Join(root, "etc"))); diff != "" && tt.process.RemoveStubsRecursive {
				t.Errorf("/etc (-want +got):\n%s", diff)
			}
			if got := list(t, filepath.Join(root, "dev")); len(got) > 0 {
				t.Errorf("left in /dev: %v", got)
			}
			if diff := cmp.Diff([]string{"root"}, list(t, filepath.Dir(root))); diff != "" {
				t.Errorf("beside the root filesystem (-want +got):\n%s", diff)
			}
		})
	}
}

func TestChrootKillsWhatIsLeft(t *testing.T) {
	t.Parallel()
	for name, cancelled := range map[string]bool{"ended": false, "cancelled": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, root := testChroot(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			script := "setsid sh -c 'setsid busybox sleep 987651 & setsid busybox sleep 987652' & busybox sleep 987653 & echo up"
			if cancelled {
				script += "; busybox sleep 987654"
			}
			out := writerFunc(func(b []byte) (int, error) {
				if cancelled {
					cancel()
				}
				return len(b), nil
			})
			_, err := s.Run(ctx, root, Process{Args: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/bin"}, Stdout: out}, nil)
			if cancelled != errors.Is(err, context.Canceled) || !cancelled && err != nil {
				t.Errorf("got %v", err)
			}
			// Nobody has its root there any more.
			links, err := filepath.Glob("/proc/[0-9]*/root")
			if err != nil {
				t.Fatal(err)
			}
			for _, link := range links {
				if target, err := os.Readlink(link); err == nil && target == root {
					t.Errorf("still running: %s", link)
				}
			}
		})
	}
}

func TestChrootMounts(t *testing.T) {
	t.Parallel()
	s, root := testChroot(t)
	sources := t.TempDir()
	write(t, sources, "cache/file", "cached\n")
	write(t, sources, "ro/file", "fixed\n")
	write(t, root, "var/lib/data/below", "original\n")
	out, err := sh(t, s, root, `cat /var/lib/data/file; echo more >>/var/lib/data/file
cat /ro/deep/file /run/secrets/s; stat -c %a:%u:%g /run/secrets/s; stat -c %a /scratch
ln /run/secrets/s /stolen; mv /run/secrets/s /moved; cat /dev/pipes/script; ls /dev/shm`,
		Process{RemoveStubsRecursive: true},
		Mount{Dest: "/dev/pipes/script", Source: filepath.Join(sources, "ro/file"), ReadOnly: true},
		Mount{Dest: "/var/lib/data", Source: filepath.Join(sources, "cache")},
		Mount{Dest: "/ro/deep", Source: filepath.Join(sources, "ro"), ReadOnly: true},
		Mount{Dest: "/run/secrets/s", IsSecret: true, Secret: []byte("of the build"), Mode: 0o400, UID: 1000, GID: 1001},
		Mount{Dest: "/scratch", Tmpfs: true, Size: 1 << 20},
		Mount{Dest: "/dev/shm", Tmpfs: true, Size: 1 << 20})
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff("cached\nfixed\nof the build400:1000:1001\n1777\nfixed\n", out); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if got := read(t, filepath.Join(sources, "cache/file")); got != "cached\nmore\n" {
		t.Errorf("cache: %q", got)
	}
	if got := read(t, filepath.Join(root, "var/lib/data/below")); got != "original\n" {
		t.Errorf("what the cache covered: %q", got)
	}
	if got := read(t, filepath.Join(root, "stolen")); got != "" {
		t.Errorf("the secret has another name and is still there: %q", got)
	}
	// The process moved the secret out of its folder, which is the process's now.
	want := []string{"bin", "dev", "etc", "home", "proc", "root", "stolen", "sys", "tmp", "var"}
	if diff := cmp.Diff(want, list(t, root)); diff != "" {
		t.Errorf("root filesystem (-want +got):\n%s", diff)
	}
	_, err = sh(t, s, root, "touch /ro/new", Process{}, Mount{Dest: "/ro", Source: filepath.Join(sources, "ro"), ReadOnly: true})
	if err == nil || !strings.Contains(err.Error(), "mount /ro is read-only, and the command changed /ro") {
		t.Errorf("wrote to a read-only mount: %v", err)
	}
}

func TestChrootGuards(t *testing.T) {
	t.Parallel()
	root := busybox(t)
	outside := t.TempDir()
	write(t, outside, "tree/file", "x")
	s, _, err := Choose(t.Context(), Chroot, Options{StateDir: filepath.Dir(root), GuardTrees: []string{filepath.Join(outside, "tree")}})
	if err != nil {
		unfit(t, err.Error())
	}
	// As a process that breaks out of its chroot would do it.
	change := writerFunc(func(b []byte) (int, error) {
		return len(b), exec.CommandContext(t.Context(), "touch", filepath.Join(outside, "tree/new")).Run()
	})
	_, err = s.Run(t.Context(), root, Process{Args: []string{"/bin/echo"}, Stdout: change}, nil)
	if err == nil || !strings.Contains(err.Error(), "RUN modified the workspace") {
		t.Errorf("got %v", err)
	}
}

func TestChooseRefuses(t *testing.T) {
	t.Parallel()
	for want, text := range map[string]string{
		InPlace:   `input "sandbox" is "in-place": it moves everything in / aside`,
		"docker":  `input "sandbox" is "docker": unknown sandbox`,
		"INPLACE": "Set it to auto, namespaces, in-place or chroot",
	} {
		_, _, err := Choose(t.Context(), want, Options{StateDir: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v, want %s", want, err, text)
		}
	}
}
