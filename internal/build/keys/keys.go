// Package keys shows ssh keys to a build, by ssh-agent's protocol and no other way.
//
// A RUN step, or a git server, can have something signed by a key. It cannot
// read the key, nor add, remove or lock keys.
package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/sys/unix"
)

// Set is where the keys of one id are: behind another agent's socket, or in
// files.
type Set struct {
	// Socket is the path of an ssh-agent's socket. Keys is empty then.
	Socket string
	// Keys are private keys as in their files, without a passphrase.
	Keys [][]byte
}

// open gives the keys' agent.
func (s Set) open(ctx context.Context) (agent.Agent, func(), error) {
	if s.Socket != "" {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", s.Socket)
		if err != nil {
			return nil, nil, fmt.Errorf("ssh agent: %w", err)
		}
		return agent.NewClient(conn), func() { _ = conn.Close() }, nil
	}
	ring := agent.NewKeyring()
	for i, content := range s.Keys {
		key, err := Parse(content)
		if err == nil {
			err = ring.Add(agent.AddedKey{PrivateKey: key})
		}
		if err != nil {
			return nil, nil, fmt.Errorf("ssh key %d: %w", i+1, err)
		}
	}
	return ring, func() {}, nil
}

// ErrPassphrase is the error for a key that nobody can use without being asked.
var ErrPassphrase = errors.New("it has a passphrase")

// Parse reads a private key. A line's end at the end may be missing, as secrets
// often lose it.
func Parse(content []byte) (any, error) {
	key, err := ssh.ParseRawPrivateKey(append(bytes.TrimSpace(bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))), '\n'))
	if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, errors.New("it is not a private key in OpenSSH's or PEM's format")
	}
	return key, nil
}

// Signers lists the keys for a connection of our own; done ends their use.
func (s Set) Signers(ctx context.Context) (signers []ssh.Signer, done func(), err error) {
	a, done, err := s.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	if signers, err = a.Signers(); err != nil {
		done()
		return nil, nil, fmt.Errorf("ssh agent: %w", err)
	}
	return signers, done, nil
}

// Serve listens at a new socket in dir, which belongs to uid and gid and has the
// mode, until stop. It gives the socket's path.
func (s Set) Serve(ctx context.Context, dir string, uid, gid int, mode os.FileMode) (path string, stop func() error, err error) {
	path = filepath.Join(dir, "ssh-agent")
	listener, err := listen(ctx, dir, "ssh-agent")
	if err != nil {
		return "", nil, fmt.Errorf("ssh agent: %w", err)
	}
	err = os.Chmod(path, mode)
	if uid != os.Geteuid() || gid != os.Getegid() {
		err = errors.Join(err, os.Lchown(path, uid, gid))
	}
	if err != nil {
		_ = listener.Close()
		return "", nil, fmt.Errorf("ssh agent: %w", err)
	}
	server := &server{set: s, open: map[net.Conn]bool{}}
	server.wait.Go(func() { server.accept(ctx, listener) })
	return path, func() error {
		err := listener.Close()
		server.end()
		return err
	}, nil
}

// listen binds a socket whose path may be longer than an address may be.
func listen(ctx context.Context, dir, name string) (net.Listener, error) {
	folder, err := os.Open(dir) //nolint:gosec // the caller's own folder
	if err != nil {
		return nil, err
	}
	defer folder.Close() //nolint:errcheck // a folder
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), name))
	if err != nil {
		return nil, err
	}
	if l, ok := listener.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false) // its path is only good as long as folder is open
	}
	return listener, nil
}

// server answers at a socket.
type server struct {
	set  Set
	wait sync.WaitGroup

	mu    sync.Mutex
	ended bool
	open  map[net.Conn]bool
}

func (s *server) accept(ctx context.Context, listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ECONNABORTED) {
			continue
		}
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.ended {
			_ = conn.Close()
		} else {
			s.open[conn] = true
			s.wait.Go(func() { s.answer(ctx, conn) })
		}
		s.mu.Unlock()
	}
}

func (s *server) answer(ctx context.Context, conn net.Conn) {
	if a, done, err := s.set.open(ctx); err == nil {
		_ = agent.ServeAgent(readOnly{a}, conn) // it ends with the client
		done()
	}
	s.mu.Lock()
	delete(s.open, conn)
	s.mu.Unlock()
	_ = conn.Close()
}

// end closes all conversations and waits for their ends.
func (s *server) end() {
	s.mu.Lock()
	s.ended = true
	for conn := range s.open {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.wait.Wait()
}

// readOnly lists keys and signs.
type readOnly struct{ agent.Agent }

// errReadOnly is the answer to everything else.
var errReadOnly = errors.New("this agent only lists keys and signs")

// SignWithFlags signs by the algorithm that the flags name: without it, RSA
// keys would be limited to SHA-1, which servers refuse.
func (r readOnly) SignWithFlags(key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	if extended, ok := r.Agent.(agent.ExtendedAgent); ok {
		return extended.SignWithFlags(key, data, flags)
	}
	return r.Sign(key, data)
}

// Extension offers none.
func (readOnly) Extension(string, []byte) ([]byte, error) { return nil, agent.ErrExtensionUnsupported }

// Add is refused.
func (readOnly) Add(agent.AddedKey) error { return errReadOnly }

// Remove is refused.
func (readOnly) Remove(ssh.PublicKey) error { return errReadOnly }

// RemoveAll is refused.
func (readOnly) RemoveAll() error { return errReadOnly }

// Lock is refused.
func (readOnly) Lock([]byte) error { return errReadOnly }

// Unlock is refused.
func (readOnly) Unlock([]byte) error { return errReadOnly }
