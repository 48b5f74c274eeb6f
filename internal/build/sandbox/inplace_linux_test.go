package sandbox

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	secret  = "hunter2-of-the-workflow"
	idToken = "request-token-of-the-job"
)

// step and report are testdata/inplace's Step and Report.
type step struct {
	Sandbox  string
	Root     string
	Script   string
	Process  Process
	Mounts   []Mount
	CancelOn string
}

type report struct {
	Output, Error, Signal string
	Code                  int
	Name, Warning         string
	Result                Result
	Tree, Top, Etc, State []string
	Hosts                 string
	Sources               map[string]string
	Processes             []string
}

// container is an image with testdata/inplace as Towline.
type container struct{ image, dir string }

func docker(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "docker", args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "DOCKER_BUILDKIT=0", "INPUT_SECRET="+secret, "ACTIONS_ID_TOKEN_REQUEST_TOKEN="+idToken)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	if stderr.Len() > 0 && args[0] == "run" {
		t.Logf("docker run: %s", stderr.String())
	}
	return string(out)
}

func newContainer(t *testing.T) container {
	t.Helper()
	if _, err := os.Stat("/bin/busybox"); err != nil {
		unfit(t, "needs a static busybox at /bin/busybox: "+err.Error())
	}
	if out, err := exec.CommandContext(t.Context(), "docker", "version").CombinedOutput(); err != nil {
		unfit(t, "needs a Docker engine: "+string(out))
	}
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "towline"), "./testdata/inplace")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"busybox":    busybox,
		"applets":    []byte(applets),
		"Dockerfile": []byte("FROM scratch\nCOPY towline busybox applets /towline/\nCOPY state /towline/state/\nENTRYPOINT [\"/towline/towline\"]\n"),
		// Of a lower layer, folders cannot be renamed.
		"state/lower/a-first/file": nil, "state/lower/etc/new": nil,
	} {
		write(t, dir, name, string(content))
	}
	c := container{image: "towline-sandbox-test:" + strings.ToLower(filepath.Base(filepath.Dir(dir))), dir: dir}
	docker(t, dir, "build", "-q", "-t", c.image, ".")
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "-f", c.image).Run() }) //nolint:noctx // the test's context has ended
	return c
}

// run starts the image as GitHub's runner starts a container action.
func (c container) run(t *testing.T, steps ...step) []report {
	t.Helper()
	temp := t.TempDir()
	for _, dir := range []string{"_github_home", "_github_workflow", "_runner_file_commands"} {
		if err := os.Mkdir(filepath.Join(temp, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, temp, "_runner_file_commands/set_env", "ALREADY=there\n")
	workspace := t.TempDir()
	write(t, workspace, "src/main.c", "int main;\n")
	write(t, workspace, "file", "of the workspace\n")
	for i := range steps[:len(steps)-1] {
		steps[i].Process.More = true
	}
	encoded, err := json.Marshal(steps)
	if err != nil {
		t.Fatal(err)
	}
	out := docker(t, c.dir, "run", "--workdir", "/github/workspace", "--rm",
		"-e", "INPUT_SECRET", "-e", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "-e", "INPUT_STEPS="+string(encoded),
		"-e", "INPUT_GUARD=/github/file_commands/set_env /github/file_commands/add_path",
		"-e", "GITHUB_ACTIONS=true", "-e", "CI=true",
		"-v", "/var/run/docker.sock:/var/run/docker.sock",
		"-v", temp+":/github/runner_temp",
		"-v", filepath.Join(temp, "_github_home")+":/github/home",
		"-v", filepath.Join(temp, "_github_workflow")+":/github/workflow",
		"-v", filepath.Join(temp, "_runner_file_commands")+":/github/file_commands",
		"-v", workspace+":/github/workspace",
		c.image)
	var reports []report
	for line := range strings.Lines(out) {
		var r report
		if err = json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		reports = append(reports, r)
	}
	if len(reports) != len(steps) {
		t.Fatalf("%d reports of %d steps:\n%s", len(reports), len(steps), out)
	}
	env, err := os.ReadFile(filepath.Join(temp, "_runner_file_commands/set_env"))
	if err != nil || string(env) != "ALREADY=there\n" {
		t.Errorf("GITHUB_ENV is %q, %v", env, err)
	}
	for i, r := range reports {
		r.checkOwn(t, i, steps[i].Process.More)
	}
	return reports
}

// checkOwn checks that the container is as it was.
func (r *report) checkOwn(t *testing.T, i int, more bool) {
	t.Helper()
	if diff := cmp.Diff([]string{".dockerenv", "dev", "etc", "github", "proc", "sys", "towline", "var"}, r.Top); diff != "" {
		t.Errorf("step %d: / (-want +got):\n%s", i, diff)
	}
	if diff := cmp.Diff([]string{"hostname", "hosts", "mtab", "resolv.conf"}, r.Etc); diff != "" {
		t.Errorf("step %d: /etc (-want +got):\n%s", i, diff)
	}
	if diff := cmp.Diff([]string{"cache", "lower", "other", "root"}, r.State); diff != "" {
		t.Errorf("step %d: /towline/state (-want +got):\n%s", i, diff)
	}
	waiting := 0 // for the next one
	if more && r.Error == "" && r.Name == "in place" {
		waiting = 1
	}
	if len(r.Processes) != waiting {
		t.Errorf("step %d: left running: %v, want %d", i, r.Processes, waiting)
	}
	if strings.Contains(r.Hosts, "evil") || !strings.Contains(r.Hosts, "localhost") {
		t.Errorf("step %d: /etc/hosts: %s", i, r.Hosts)
	}
	for _, hidden := range []string{secret, idToken} {
		if strings.Contains(r.Output, hidden) {
			t.Errorf("step %d: the command found %s:\n%s", i, hidden, r.Output)
		}
	}
	if slices.ContainsFunc(r.Tree, func(line string) bool { return strings.Contains(line, "towline") }) {
		t.Errorf("step %d: something of Towline's in the root filesystem: %v", i, r.Tree)
	}
}

func TestInPlace(t *testing.T) {
	t.Parallel()
	c := newContainer(t)
	for name, test := range map[string]func(*testing.T, container){
		"hides Towline": inPlaceHidesTowline,
		"changes":       inPlaceChanges,
		"guards":        inPlaceGuards,
		"mounts":        inPlaceMounts,
		"users":         inPlaceUsers,
		"undoes":        inPlaceUndoes,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, c)
		})
	}
}

func inPlaceHidesTowline(t *testing.T, c container) {
	t.Helper()
	reports := c.run(t,
		step{Script: "cat /proc/1/environ; head -c 10 /proc/1/mem; cat /proc/1/cmdline; readlink /proc/1/exe; readlink /proc/1/root; ls -l /proc/1/fd/; cat /proc/*/environ; env"},
		step{Script: "ls /proc/self/fd; readlink /proc/self/fd/0; echo visible >/dev/stdout", Process: Process{User: "app"}},
		step{Script: "ls /towline /towline/state; cat /towline/state/self/github/file_commands/set_env; find / -name docker.sock; cat /proc/1/environ", Process: Process{User: "app"}},
	)
	r := reports[0]
	for _, want := range []string{"can't open '/proc/1/environ'", "/proc/1/mem: Permission denied", "cannot read link"} {
		if !strings.Contains(r.Output, want) {
			t.Errorf("not in the output: %s\n%s", want, r.Output)
		}
	}
	// The pipes of the process, and the folder that ls reads.
	if got, want := reports[1].Output, "0\n1\n2\n3\n/dev/null\nvisible\n"; got != want {
		t.Errorf("open files: got %q, want %q", got, want)
	}
	if out := reports[2].Output; strings.Contains(out, "ALREADY") || strings.Contains(out, "/docker.sock") || !strings.Contains(out, "/towline: Permission denied") {
		t.Errorf("a user saw Towline's folder:\n%s", out)
	}
}

func inPlaceChanges(t *testing.T, c container) {
	t.Helper()
	reports := c.run(t,
		step{Script: "mkdir /newdir && echo x >/newdir/file && echo app2:x:1:1::/:/bin/sh >>/etc/passwd && rm -r /tmp && touch /etc/new && chmod 700 /etc && mkdir /github; cat /etc/hostname"},
		step{Script: "cat /newdir/file; ls -d /tmp 2>/dev/null; tr : ' ' </etc/passwd; stat -c %a /etc; ls -a /github; mv /home /moved; ln -s /proc /link; echo mine >/etc/hostname", Process: Process{Cwd: "/work/dir"}},
		step{Script: "rm /dev/null; mknod /dev/other c 1 3; touch /dev/shm/x; ls /"},
		step{Script: "test -c /dev/null && ! test -e /dev/other && ! test -e /dev/shm/x && cat /etc/hostname && pwd", Process: Process{Cwd: "/work/dir"}},
	)
	for i, r := range reports {
		if len(r.Result.Restored) > 0 && i != 1 {
			t.Errorf("step %d: restored %v", i, r.Result.Restored)
		}
	}
	first := reports[0]
	for _, want := range []string{"newdir/file -rw-r--r--", "etc/new -rw-r--r--", "etc drwx------", "github drwxr-xr-x", "etc/hosts -rw-r--r--"} {
		if !slices.Contains(first.Tree, want) {
			t.Errorf("not in the tree: %s\n%v", want, first.Tree)
		}
	}
	if diff := cmp.Diff([]string{"bin", "etc/app", "etc/group", "home", "root", "var"}, first.Result.Moved); diff != "" {
		t.Errorf("moved (-want +got):\n%s", diff)
	}
	if slices.ContainsFunc(first.Tree, func(line string) bool { return strings.HasPrefix(line, "tmp") }) {
		t.Errorf("/tmp is still there: %v", first.Tree)
	}
	if out := reports[1].Output; !strings.HasPrefix(out, "x\n") || !strings.Contains(out, "app2 x 1") || !strings.Contains(out, "\n700\n") {
		t.Errorf("second step: %s", out)
	}
	if !slices.Contains(reports[1].Tree, "moved/app drwxr-xr-x") || !slices.Contains(reports[1].Tree, "work/dir drwxr-xr-x") {
		t.Errorf("second step: %v", reports[1].Tree)
	}
	if got := reports[3].Output; got != "mine\n/work/dir\n" {
		t.Errorf("fourth step: %q %s", got, reports[3].Error)
	}
}

func inPlaceGuards(t *testing.T, c container) {
	t.Helper()
	const dir = "/towline/state/self/github/"
	reports := c.run(t,
		step{Script: "echo EVIL=1 >>" + dir + "file_commands/set_env; echo 6.6.6.6 evil >/etc/hosts; echo /evil >" + dir + "file_commands/add_path; chmod 777 /etc/resolv.conf"},
		step{Script: "rm " + dir + "file_commands/set_env; cat /etc/hosts", Process: Process{ExtraHosts: []HostIP{{Host: "db.test", IP: "10.9.8.7"}}}},
		step{Script: "setsid sh -c 'setsid sleep 1000 & setsid sleep 1001' & sleep 1002 & echo started"},
		step{Script: "kill -9 $$"},
		step{Script: "kill -9 1; (echo a; sleep 100) | cat", CancelOn: "a\n"},
		step{Script: "exit 7"},
		step{Script: "echo x >" + dir + "workspace/src/main.c"},
		step{Script: "/bin/nothing-there"},
		step{Script: "echo EVIL=1 >" + dir + "file_commands/set_env; mv " + dir + " /towline/hidden; mkdir -p " + dir + "file_commands; echo ALREADY=there >" + dir + "file_commands/set_env"},
	)
	if !strings.Contains(reports[8].Error, "the command replaced /github of Towline's own") || len(reports[8].Result.Restored) == 0 {
		t.Errorf("Towline's own entries moved: %+v", reports[8])
	}
	if diff := cmp.Diff([]string{"/github/file_commands/set_env", "/github/file_commands/add_path", "/etc/hosts", "/etc/resolv.conf"}, reports[0].Result.Restored); diff != "" {
		t.Errorf("restored (-want +got):\n%s", diff)
	}
	if out := reports[1].Output; strings.Contains(out, "evil") || !strings.Contains(out, "10.9.8.7\tdb.test") {
		t.Errorf("hosts: %s", out)
	}
	if r := reports[2]; r.Error != "" || r.Output != "started\n" {
		t.Errorf("daemons: %+v", r)
	}
	if r := reports[3]; r.Code != 137 || r.Signal != "SIGKILL" {
		t.Errorf("killed: %+v", r)
	}
	if r := reports[4]; r.Error != "context canceled" {
		t.Errorf("cancelled: %+v", r)
	}
	if r := reports[5]; r.Code != 7 {
		t.Errorf("exit 7: %+v", r)
	}
	if r := reports[6]; r.Error != "RUN modified the workspace: /github/workspace/src/main.c" {
		t.Errorf("workspace: %+v", r)
	}
	if r := reports[7]; r.Code != 127 {
		t.Errorf("no command: %+v", r)
	}
}

func inPlaceMounts(t *testing.T, c container) {
	t.Helper()
	const state = "/towline/state/"
	secretMount := Mount{Dest: "/run/secrets/token", IsSecret: true, Secret: []byte("of the build"), Mode: 0o400, UID: 1000, GID: 1000}
	reports := c.run(t,
		step{
			Script:  "cat /run/secrets/token; id -u; stat -c %a:%u:%g /run/secrets/token; ln /run/secrets/token /home/app/copy 2>/dev/null; true",
			Process: Process{User: "app", RemoveStubsRecursive: true}, Mounts: []Mount{secretMount},
		},
		step{
			Script:  "cat /var/lib/data/file; ls /var/lib/data; echo more >>/var/lib/data/file; stat -c %a /cache/deep; touch /cache/deep/x",
			Process: Process{RemoveStubsRecursive: true},
			Mounts:  []Mount{{Dest: "/var/lib/data", Source: state + "cache"}, {Dest: "/cache/deep", Tmpfs: true}},
		},
		step{Script: "cat /src/file", Mounts: []Mount{{Dest: "/src", Source: state + "other", ReadOnly: true}}, Process: Process{RemoveStubsRecursive: true}},
		step{Script: "echo y >/src/file", Mounts: []Mount{{Dest: "/src", Source: state + "other", ReadOnly: true}}, Process: Process{RemoveStubsRecursive: true}},
		step{
			Script: "cat /src/src/main.c /src/src/cache/file; echo z >>/src/src/cache/file", Process: Process{RemoveStubsRecursive: true},
			Mounts: []Mount{{Dest: "/src/src/cache", Source: state + "cache"}, {Dest: "/src", Source: "/github/workspace", ReadOnly: true}},
		},
		step{Script: "mv /var/lib/data /elsewhere; ln -s /towline/state/self/github/workspace /var/lib/data", Mounts: []Mount{{Dest: "/var/lib/data", Source: state + "cache"}}},
		step{Script: "rm /var/lib/data; mv /elsewhere /var/lib/data"},
		step{Script: "cat /var/lib/data/below; cat /dev/pipes/x; ls /dev", Mounts: []Mount{{Dest: "/dev/pipes/x", Source: state + "other/file", ReadOnly: true}, {Dest: "/dev/shm", Tmpfs: true}}},
		step{Script: "rm -r /var/lib", Mounts: []Mount{{Dest: "/var/lib/data", Source: state + "cache"}}},
	)
	for i, want := range []string{"of the build1000\n400:1000:1000\n", "cached\nfile\n1777\n", "other\n", "", "int main;\ncached\nmore\n", ""} {
		if got := reports[i].Output; got != want {
			t.Errorf("step %d: got %q (%s), want %q", i, got, reports[i].Error, want)
		}
	}
	if got, want := reports[3].Error, "mount /src is read-only, and the command changed /src/file"; got != want {
		t.Errorf("read-only mount: got %q, want %q", got, want)
	}
	if out := reports[7].Output; !strings.HasPrefix(out, "original\ny\n") || strings.Contains(reports[8].Output, "pipes") {
		t.Errorf("mounts in /dev: %s", out)
	}
	for i, want := range map[int]string{1: "cached\nmore\n", 5: "cached\nmore\nz\n"} {
		if got := reports[i].Sources[state+"cache"]; got != want {
			t.Errorf("step %d: the cache holds %q, want %q", i, got, want)
		}
	}
	if slices.Contains(reports[0].Tree, "run/secrets drwxr-xr-x") || slices.Contains(reports[2].Tree, "src drwxr-xr-x") {
		t.Errorf("stubs were left: %v %v", reports[0].Tree, reports[2].Tree)
	}
}

func inPlaceUsers(t *testing.T, c container) {
	t.Helper()
	reports := c.run(t,
		step{Script: "id; env; ulimit -n; cat /proc/self/status", Process: Process{User: "app", Ulimits: []Ulimit{{Name: "nofile", Soft: 100, Hard: 200}}}},
		step{Script: "id", Process: Process{User: "app:extra"}},
		step{Script: "id", Process: Process{User: "77:88"}},
		step{Script: "id", Process: Process{User: "nobody"}},
		step{Script: "nc 127.0.0.1 1 2>&1", Process: Process{Network: NetworkNone, User: "app"}},
		step{Script: "id", Sandbox: Namespaces},
		step{Script: "id; ls /proc; cat /etc/hosts; ls /dev", Sandbox: Chroot, Process: Process{User: "app"}},
	)
	for i, want := range []string{
		"uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)\n",
		"uid=1000(app) gid=2000(extra) groups=2000(extra)\n", "uid=77 gid=88 groups=88\n", "", "nc: socket: Address family not supported by protocol\n", "", "uid=1000(app)",
	} {
		if !strings.HasPrefix(reports[i].Output, want) {
			t.Errorf("step %d: got %q (%s), want %q", i, reports[i].Output, reports[i].Error, want)
		}
	}
	if !strings.Contains(reports[5].Error, "the kernel or the container runtime refuses them") {
		t.Errorf("namespaces: %s", reports[5].Error)
	}
	if reports[6].Name != "chroot" || reports[6].Warning == "" {
		t.Errorf("chroot: %+v", reports[6])
	}
}

// What cannot be swapped in is told, and everything is as before.
func inPlaceUndoes(t *testing.T, c container) {
	t.Helper()
	reports := c.run(t,
		step{Script: "true", Root: "/towline/state/lower"},
		step{Script: "ls /", Mounts: []Mount{{Dest: "/proc/x", Tmpfs: true}}},
		step{Script: "ls /"},
	)
	if r := reports[0]; !strings.Contains(r.Error, "invalid cross-device link") {
		t.Errorf("folders of a lower layer: %+v", r)
	}
	if r := reports[1]; r.Error != "mount /proc/x: /proc/x is the container's own, which needs the namespaces sandbox" {
		t.Errorf("mount in /proc: %+v", r)
	}
	if r := reports[2]; r.Error != "" || r.Output != "bin\ndev\netc\nhome\nproc\nroot\nsys\ntmp\ntowline\nvar\n" {
		t.Errorf("afterwards: %+v", r)
	}
}
