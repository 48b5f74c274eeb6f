package conformance

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

// contextsPath is where the file server has the contexts of cases whose main
// context is none of folders: NAME.git, NAME.tar.gz, NAME/Dockerfile.
const contextsPath = "/contexts/"

// contextServer serves contexts, made when they are first asked for.
type contextServer struct {
	git gitProgram
	// repositories is a folder of bare ones.
	repositories string
	mu           sync.Mutex
}

func newContextServer(t *testing.T) *contextServer {
	t.Helper()
	return &contextServer{git: findGit(t), repositories: t.TempDir()}
}

// ServeHTTP serves the context of the case that the path names.
func (s *contextServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, contextsPath), "/")
	name, isTar := strings.CutSuffix(name, ".tar.gz")
	name, isGit := strings.CutSuffix(name, ".git")
	c, err := loadCase(filepath.Join(caseDir, filepath.Base(name)+".txtar"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	var content []byte
	switch {
	case isGit:
		if err = s.repository(r, c); err == nil {
			s.git.serve(s.repositories, strings.TrimSuffix(contextsPath, "/")).ServeHTTP(w, r)
			return
		}
	case isTar:
		content, err = c.tar("")
	default:
		text, _ := c.file(rest)
		content = []byte(text)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	http.ServeContent(w, r, "", served(), bytes.NewReader(content))
}

// repository makes a case's context a git repository, of one commit.
func (s *contextServer) repository(r *http.Request, c *testCase) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	bare := filepath.Join(s.repositories, c.name+".git")
	if _, err := os.Stat(bare); err == nil {
		return nil
	}
	dir, err := os.MkdirTemp("", "context")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err = c.write(dir); err != nil {
		return err
	}
	work := contextPath(dir, "")
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"},
		{"add", "--force", "."},
		{"commit", "--quiet", "--message=all"},
		{"tag", "v1"},
	} {
		if err = s.git.run(r.Context(), work, args...); err != nil {
			return err
		}
	}
	return s.git.publish(r.Context(), work, bare)
}

// tar packs a case's context, which it makes in work, by default the system's folder
// for temporary files.
func (c *testCase) tar(work string) (_ []byte, err error) {
	dir, err := os.MkdirTemp(work, "context")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err = c.write(dir); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = packTo(&out, "gz", contextPath(dir, ""))
	return out.Bytes(), err
}

// mainContext is the case's main context where that is none of folders: a URL, or
// for a builder that takes files the path of one in dir.
func (c *testCase) mainContext(server, dir string, takesFiles bool) (string, error) {
	given := c.all("main")
	if len(given) == 0 {
		return "", nil
	}
	kind, fragment := given[0][0], given[0][1]
	url := server + contextsPath + c.name
	switch {
	case kind == "git":
		return url + ".git" + fragment, nil
	case kind == "http", kind == "tar" && !takesFiles:
		return url + ".tar.gz", nil
	case kind == "dockerfile":
		return url + "/Dockerfile", nil
	case kind == "tar":
		content, err := c.tar(dir)
		if err != nil {
			return "", err
		}
		file := filepath.Join(dir, "context.tar.gz")
		return file, writeFile(file, content)
	}
	return "", errors.New("no such main context: " + kind)
}

// sshKey is a private key, the same every time.
func sshKey() ([]byte, error) {
	block, err := ssh.MarshalPrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), "")
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}
