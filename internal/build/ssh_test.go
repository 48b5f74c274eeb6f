package build_test

import (
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/tools/txtar"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/build/sandbox"
	"github.com/towline/towline/internal/problem"
)

// A RUN reaches the agent, whichever sandbox it is in, and neither the socket nor
// the key is left in the image. In place is tested in a container, elsewhere.
func TestSSHMount(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	client := filepath.Join(t.TempDir(), "client")
	compile := exec.CommandContext(t.Context(), "go", "build", "-o", client, "./testdata/agentclient")
	compile.Env = append(compile.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	program, err := os.ReadFile(client)
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	key := pem.EncodeToMemory(block)
	wire, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	base := baseImage(t, []txtar.File{{Name: "bin/client", Data: program}})
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{sandbox.Namespaces, sandbox.Chroot} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			box, _, err := sandbox.Choose(t.Context(), name, sandbox.Options{StateDir: t.TempDir(), Executable: executable})
			if err != nil {
				t.Skip(err)
			}
			var mu sync.Mutex
			var out strings.Builder
			opts := build.Options{
				Images: bases{base}, Sandbox: box, SSH: map[string]build.Keys{"default": {Keys: [][]byte{key}}},
				Progress: func(e progress.Event) {
					if e, ok := e.(progress.StepOutput); ok {
						mu.Lock()
						defer mu.Unlock()
						out.Write(e.Data)
					}
				},
			}
			got, err := sourceBuild(t, "FROM base\n"+
				"RUN --mount=type=ssh [\"/bin/client\"]\n"+
				"RUN --mount=type=ssh,id=default,required,target=/s/a.sock,mode=0666,uid=5,gid=6 [\"/bin/client\"]\n"+
				"RUN --mount=type=ssh,id=other [\"/bin/client\"]\n", opts)
			if err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			listed := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(wire)))
			want := []string{
				listed + " 140600 0:0", listed + " 140666 5:6",
				"dial unix /run/buildkit/ssh_agent.0: connect: no such file or directory",
			}
			for i := range lines {
				lines[i] = strings.Replace(lines[i], "  ", " ", 1) // between the key and its comment, which is empty
			}
			if diff := cmp.Diff(lines, want); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
			if all := strings.Join(got[1:], "\n"); strings.Contains(all, "sock") || strings.Contains(all, "agent") || strings.Contains(all, "PRIVATE") {
				t.Errorf("left in the image: %s", all)
			}
			_, err = sourceBuild(t, "FROM base\nRUN --mount=type=ssh,id=other,required true\n", opts)
			if p, ok := errors.AsType[*problem.Error](err); !ok || p.Input != "ssh" || p.Line != 2 {
				t.Errorf("error %#v", err)
			}
		})
	}
}
