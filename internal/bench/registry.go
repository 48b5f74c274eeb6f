package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// server is what both builders talk to: a registry, and the files of cases.
//
// The manifests are go-containerregistry's affair. Its blobs are not: it keeps an
// upload in memory, takes one at a time, and has the blobs of all repositories in
// common, so that the second builder would find the first one's there.
type server struct {
	// mirror is host:port of what stands in for Docker Hub, and host that of the registry
	// that is pushed to. Two names, as nobody can mount from one registry into another.
	host, mirror string
	dir          string

	manifests http.Handler
	files     *http.ServeMux
	// in and out count the bytes of requests and answers.
	in, out atomic.Int64

	mu      sync.Mutex
	uploads map[string]*blobUpload
	next    int
}

type blobUpload struct {
	file *os.File
	sum  hash.Hash
}

// serve answers at two free ports of address until ctx ends. Blobs are kept in dir.
func serve(ctx context.Context, address, dir string) (*server, error) {
	s := &server{
		dir: dir, files: http.NewServeMux(), uploads: map[string]*blobUpload{},
		manifests: registry.New(registry.Logger(log.New(io.Discard, "", 0))),
	}
	for _, host := range []*string{&s.host, &s.mirror} {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			return nil, err
		}
		*host = listener.Addr().String()
		web := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
		go func() { _ = web.Serve(listener) }()
		context.AfterFunc(ctx, func() { _ = web.Close() })
	}
	return s, nil
}

// moved gives the bytes that were received and sent so far.
func (s *server) moved() (in, out int64) { return s.in.Load(), s.out.Load() }

// push puts an image where Docker Hub is looked for.
func (s *server) push(ctx context.Context, repository string, img v1.Image) error {
	ref, err := name.ParseReference(s.mirror+"/"+repository, name.Insecure)
	if err != nil {
		return err
	}
	return remote.Write(ref, img, remote.WithContext(ctx))
}

// digest gives what a tag names.
func (s *server) digest(ctx context.Context, ref string) (string, error) {
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		return "", err
	}
	found, err := remote.Head(tag, remote.WithContext(ctx))
	if err != nil {
		return "", err
	}
	return found.Digest.String(), nil
}

// forget drops the blobs of the repositories below a name.
func (s *server) forget(below string) error { return os.RemoveAll(filepath.Join(s.dir, below)) }

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = &countedBody{ReadCloser: r.Body, count: &s.in}
	counted := &countedWriter{ResponseWriter: w, count: &s.out}
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	if path == r.URL.Path {
		s.files.ServeHTTP(counted, r)
		return
	}
	repository, object, isBlob := strings.Cut(path, "/blobs/")
	if !isBlob {
		s.manifests.ServeHTTP(counted, r)
		return
	}
	var err error
	if id, isUpload := strings.CutPrefix(object, "uploads/"); isUpload {
		err = s.upload(counted, r, repository, id)
	} else {
		err = s.blob(counted, r, repository, object)
	}
	if err != nil {
		http.Error(counted, err.Error(), http.StatusBadRequest)
	}
}

func (s *server) file(repository, digest string) string {
	return filepath.Join(s.dir, filepath.FromSlash(repository), "blobs", strings.TrimPrefix(digest, "sha256:"))
}

func (s *server) blob(w http.ResponseWriter, r *http.Request, repository, digest string) error {
	f, err := os.Open(s.file(repository, digest))
	if errors.Is(err, os.ErrNotExist) {
		http.Error(w, `{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}`, http.StatusNotFound)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", digest)
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

func (s *server) upload(w http.ResponseWriter, r *http.Request, repository, id string) error {
	switch r.Method {
	case http.MethodPost:
		return s.startUpload(w, r, repository)
	case http.MethodPatch, http.MethodPut:
		s.mu.Lock()
		u := s.uploads[id]
		s.mu.Unlock()
		if u == nil {
			http.Error(w, `{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"upload unknown"}]}`, http.StatusNotFound)
			return nil
		}
		n, err := io.Copy(io.MultiWriter(u.file, u.sum), r.Body)
		if err != nil {
			return err
		}
		if r.Method == http.MethodPut {
			return s.endUpload(w, repository, id, r.URL.Query().Get("digest"), u)
		}
		w.Header().Set("Location", "/v2/"+repository+"/blobs/uploads/"+id)
		w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, n-1)))
		w.WriteHeader(http.StatusAccepted)
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
	return nil
}

func (s *server) startUpload(w http.ResponseWriter, r *http.Request, repository string) error {
	dir := filepath.Dir(s.file(repository, "x"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if digest, from := r.URL.Query().Get("mount"), r.URL.Query().Get("from"); digest != "" && from != "" {
		err := os.Link(s.file(from, digest), s.file(repository, digest))
		if err == nil || errors.Is(err, os.ErrExist) {
			w.Header().Set("Location", "/v2/"+repository+"/blobs/"+digest)
			w.WriteHeader(http.StatusCreated)
			return nil
		}
	}
	f, err := os.CreateTemp(dir, "upload-*")
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.next++
	id := fmt.Sprint(s.next)
	s.uploads[id] = &blobUpload{file: f, sum: sha256.New()}
	s.mu.Unlock()
	w.Header().Set("Location", "/v2/"+repository+"/blobs/uploads/"+id)
	w.Header().Set("Range", "0-0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (s *server) endUpload(w http.ResponseWriter, repository, id, digest string, u *blobUpload) error {
	s.mu.Lock()
	delete(s.uploads, id)
	s.mu.Unlock()
	if got := "sha256:" + hex.EncodeToString(u.sum.Sum(nil)); got != digest {
		return cmp.Or(errors.Join(u.file.Close(), os.Remove(u.file.Name())), fmt.Errorf("blob has digest %s, not %s", got, digest))
	}
	if err := errors.Join(u.file.Close(), os.Rename(u.file.Name(), s.file(repository, digest))); err != nil {
		return err
	}
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Location", "/v2/"+repository+"/blobs/"+digest)
	w.WriteHeader(http.StatusCreated)
	return nil
}

type countedBody struct {
	io.ReadCloser

	count *atomic.Int64
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.count.Add(int64(n))
	return n, err
}

type countedWriter struct {
	http.ResponseWriter

	count *atomic.Int64
}

// Write implements io.Writer.
func (w *countedWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.count.Add(int64(n))
	return n, err
}

// ReadFrom lets the kernel copy a file into the connection.
func (w *countedWriter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(w.ResponseWriter, r)
	w.count.Add(n)
	return n, err
}
