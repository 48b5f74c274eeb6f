package keys

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

func newKey(t *testing.T, passphrase string) ([]byte, ssh.PublicKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block), key
}

// dial talks to a socket whatever the length of its path.
func dial(t *testing.T, path string) agent.ExtendedAgent {
	t.Helper()
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close() //nolint:errcheck // a folder
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), filepath.Base(path)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return agent.NewClient(conn)
}

func TestServe(t *testing.T) {
	t.Parallel()
	content, public := newKey(t, "")
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// A second agent passes on what the first one signs.
	first, stopFirst, err := Set{Keys: [][]byte{[]byte(strings.TrimSpace(string(content)))}}.Serve(t.Context(), t.TempDir(), os.Getuid(), os.Getgid(), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	path, stop, err := Set{Socket: first}.Serve(t.Context(), dir, os.Getuid(), os.Getgid(), 0o640)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o640 {
		t.Errorf("socket %v, %v", info.Mode(), err)
	}
	client := dial(t, path)
	listed, err := client.List()
	if err != nil || len(listed) != 1 || string(listed[0].Blob) != string(public.Marshal()) {
		t.Fatalf("keys %v, %v", listed, err)
	}
	signature, err := client.Sign(public, []byte("data"))
	if err != nil || public.Verify([]byte("data"), signature) != nil {
		t.Errorf("signature %v, %v", signature, err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"add": client.Add(agent.AddedKey{PrivateKey: private}), "remove": client.Remove(public), "remove all": client.RemoveAll(),
		"lock": client.Lock([]byte("x")), "unlock": client.Unlock([]byte("x")),
	} {
		if err == nil {
			t.Errorf("%s was allowed", what)
		}
	}
	if listed, err = client.List(); err != nil || len(listed) != 1 {
		t.Errorf("keys afterwards %v, %v", listed, err)
	}
	if err := errors.Join(stop(), stopFirst()); err != nil {
		t.Error(err)
	}
	if _, err := client.List(); err == nil {
		t.Error("it answers after its end")
	}
}

// RSA keys sign by SHA-2 when asked to.
func TestRSA(t *testing.T) {
	t.Parallel()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	path, stop, err := Set{Keys: [][]byte{pem.EncodeToMemory(block)}}.Serve(t.Context(), t.TempDir(), os.Getuid(), os.Getgid(), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer stop() //nolint:errcheck // the test's own
	public, err := ssh.NewPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := dial(t, path).SignWithFlags(public, []byte("data"), agent.SignatureFlagRsaSha256)
	if err != nil || signature.Format != ssh.KeyAlgoRSASHA256 {
		t.Errorf("signature %+v, %v", signature, err)
	}
}

func TestSigners(t *testing.T) {
	t.Parallel()
	content, public := newKey(t, "")
	signers, done, err := Set{Keys: [][]byte{content}}.Signers(t.Context())
	if err != nil || len(signers) != 1 || string(signers[0].PublicKey().Marshal()) != string(public.Marshal()) {
		t.Fatalf("signers %v, %v", signers, err)
	}
	done()
}

func TestParse(t *testing.T) {
	t.Parallel()
	locked, _ := newKey(t, "pass")
	if _, err := Parse(locked); !errors.Is(err, ErrPassphrase) {
		t.Errorf("error %v, want that of a passphrase", err)
	}
	if _, err := Parse([]byte("hidden")); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("error %v", err)
	}
	plain, _ := newKey(t, "")
	if _, err := Parse([]byte(strings.ReplaceAll(strings.TrimSpace(string(plain)), "\n", "\r\n"))); err != nil {
		t.Errorf("line ends of Windows: %v", err)
	}
}
