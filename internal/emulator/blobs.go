package emulator

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	// layerPath is where blobs are downloaded: ECR redirects to S3.
	layerPath = "/starport-layer-bucket/"
	// minPart is the least size of every PATCH of an upload but the last.
	minPart = 5 << 20
)

// blobStore keeps blobs by digest, for all repositories.
type blobStore interface {
	create() (blobWriter, error)
	open(digest string) (io.ReadSeekCloser, error)
}

// blobWriter takes one blob; keep files it under its digest.
type blobWriter interface {
	io.Writer
	keep(digest string) error
	discard()
}

type memoryBlobs struct {
	mu   sync.Mutex
	held map[string][]byte
}

func (m *memoryBlobs) create() (blobWriter, error) { return &memoryBlob{store: m}, nil }

func (m *memoryBlobs) open(digest string) (io.ReadSeekCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	content, held := m.held[digest]
	if !held {
		return nil, os.ErrNotExist
	}
	return nopCloser{bytes.NewReader(content)}, nil
}

type nopCloser struct{ *bytes.Reader }

// Close implements io.Closer.
func (nopCloser) Close() error { return nil }

type memoryBlob struct {
	bytes.Buffer
	store *memoryBlobs
}

func (b *memoryBlob) keep(digest string) error {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	b.store.held[digest] = b.Bytes()
	return nil
}

func (b *memoryBlob) discard() { b.Reset() }

type diskBlobs struct{ dir string }

func (d diskBlobs) create() (blobWriter, error) {
	if err := os.MkdirAll(d.dir, 0o750); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(d.dir, "upload-*")
	if err != nil {
		return nil, err
	}
	return diskBlob{File: f, dir: d.dir}, nil
}

func (d diskBlobs) open(digest string) (io.ReadSeekCloser, error) {
	return os.Open(filepath.Join(d.dir, strings.TrimPrefix(digest, "sha256:")))
}

type diskBlob struct {
	*os.File

	dir string
}

func (b diskBlob) keep(digest string) error {
	return errors.Join(b.Close(), os.Rename(b.Name(), filepath.Join(b.dir, strings.TrimPrefix(digest, "sha256:"))))
}

func (b diskBlob) discard() {
	_ = b.Close()
	_ = os.Remove(b.Name())
}

// upload is one upload session.
type upload struct {
	repo *repository
	blob blobWriter
	sum  hash.Hash
	size int64
	// last is the size of the part before, which must not be small.
	last int64
}

func (c *Cloud) serveUpload(w http.ResponseWriter, r *http.Request, repo *repository, id string, call *Call) error {
	switch r.Method {
	case http.MethodPost:
		return c.startUpload(w, r, repo, call)
	case http.MethodPatch, http.MethodPut:
		c.mu.Lock()
		up := c.reg.uploads[id]
		delete(c.reg.uploads, id)
		c.mu.Unlock()
		if up == nil || up.repo != repo {
			return &Error{
				Code: "BLOB_UPLOAD_UNKNOWN", Status: http.StatusNotFound,
				Message: fmt.Sprintf("The upload with id '%s' does not exist in the repository with name '%s' in the registry with id '%s'", id, repo.Name, repo.home.account),
			}
		}
		n, err := up.take(r)
		call.Bytes = n
		if err != nil {
			up.blob.discard()
			return err
		}
		if r.Method == http.MethodPut {
			return c.finishUpload(w, r, up)
		}
		c.mu.Lock()
		c.reg.uploads[id] = up
		c.mu.Unlock()
		w.Header().Set("Location", "/v2/"+repo.Name+"/blobs/uploads/"+id)
		w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, up.size-1)))
		w.Header().Set("Docker-Upload-Uuid", id)
		w.WriteHeader(http.StatusCreated) // ECR's answer, where the specification has 202
		return nil
	default:
		return &Error{Code: "UNSUPPORTED", Message: "The operation is unsupported.", Status: http.StatusMethodNotAllowed}
	}
}

func (c *Cloud) startUpload(w http.ResponseWriter, r *http.Request, repo *repository, call *Call) error {
	query := r.URL.Query()
	digest, from := query.Get("mount"), query.Get("from")
	c.mu.Lock()
	defer c.mu.Unlock()
	if source := c.reg.repos[repositoryKey{repo.home, from}]; digest != "" && source != nil && !c.opts.NoBlobMounting {
		if size, held := source.blobs[digest]; held {
			repo.blobs[digest] = size
			w.Header().Set("Location", "/v2/"+repo.Name+"/blobs/"+digest)
			w.Header().Set("Docker-Content-Digest", digest)
			w.WriteHeader(http.StatusCreated)
			return nil
		}
	}
	call.Action = "POST upload"
	blob, err := c.reg.blobs.create()
	if err != nil {
		return err
	}
	id := c.unique("upload")[:32]
	c.reg.uploads[id] = &upload{repo: repo, blob: blob, sum: sha256.New()}
	w.Header().Set("Location", "/v2/"+repo.Name+"/blobs/uploads/"+id)
	w.Header().Set("Range", "0-0")
	w.Header().Set("Docker-Upload-Uuid", id)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// take appends a request's body.
func (u *upload) take(r *http.Request) (int64, error) {
	if span := r.Header.Get("Content-Range"); span != "" {
		first, _, _ := strings.Cut(strings.TrimPrefix(span, "bytes "), "-")
		if first != fmt.Sprint(u.size) {
			return 0, &Error{
				Code: "BLOB_UPLOAD_INVALID", Status: http.StatusRequestedRangeNotSatisfiable,
				Message: fmt.Sprintf("The first byte of the part is '%s', expected '%d'", first, u.size),
			}
		}
	}
	n, err := io.Copy(io.MultiWriter(u.blob, u.sum), r.Body)
	if err != nil {
		return n, &Error{Code: "BLOB_UPLOAD_INVALID", Message: err.Error()}
	}
	if n > 0 && u.size > 0 && u.last < minPart {
		return n, refuse("BLOB_UPLOAD_INVALID", "Layer parts must be at least %d bytes in size", minPart)
	}
	u.size += n
	u.last = cmp.Or(n, u.last)
	return n, nil
}

func (c *Cloud) finishUpload(w http.ResponseWriter, r *http.Request, up *upload) error {
	want := r.URL.Query().Get("digest")
	got := "sha256:" + hex.EncodeToString(up.sum.Sum(nil))
	if want != got {
		up.blob.discard()
		return refuse("DIGEST_INVALID", "The digest of the blob upload does not match the provided digest '%s'", want)
	}
	if up.size == 0 {
		up.blob.discard()
		return refuse("BLOB_UPLOAD_INVALID", "The layer upload is empty")
	}
	if err := up.blob.keep(got); err != nil {
		return err
	}
	c.mu.Lock()
	up.repo.blobs[got] = up.size
	c.mu.Unlock()
	w.Header().Set("Docker-Content-Digest", got)
	w.Header().Set("Location", "/v2/"+up.repo.Name+"/blobs/"+got)
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (c *Cloud) serveBlob(w http.ResponseWriter, r *http.Request, repo *repository, digest string) error {
	c.mu.Lock()
	size, held := repo.blobs[digest]
	c.mu.Unlock()
	if !held {
		return &Error{
			Code: "BLOB_UNKNOWN", Status: http.StatusNotFound,
			Message: fmt.Sprintf("The layer with digest '%s' does not exist in the repository with name '%s'", digest, repo.Name),
		}
	}
	w.Header().Set("Docker-Content-Digest", digest)
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		w.Header().Set("Content-Type", "application/octet-stream")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	to := layerPath + digest + "?X-Amz-Signature=" + c.layerSignature(digest)
	if repo.home.public {
		to = "https://d5l0dvt14r5h8.cloudfront.net" + to
	} else if isAWS(r.Host) {
		_, domain := partition(repo.home.region)
		to = fmt.Sprintf("https://prod-%[1]s-starport-layer-bucket.s3.%[1]s.%[2]s%[3]s", repo.home.region, domain, to)
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusTemporaryRedirect)
	return nil
}

func (c *Cloud) layerSignature(digest string) string {
	mac := hmac.New(sha256.New, []byte(c.requestToken()))
	mac.Write([]byte(digest))
	return hex.EncodeToString(mac.Sum(nil))
}

// serveLayer is the bucket to which ECR redirects.
func (c *Cloud) serveLayer(w http.ResponseWriter, r *http.Request) {
	call := &Call{Service: "registry", Action: r.Method + " layer", Time: time.Now()}
	c.exchange(w, r, call, writeQueryError, func(w http.ResponseWriter, f *Fault) error {
		if err := f.refusal(&request{action: "s3:GetObject"}, "registry"); err != nil {
			return err
		}
		digest := strings.TrimPrefix(r.URL.Path, layerPath)
		if r.URL.Query().Get("X-Amz-Signature") != c.layerSignature(digest) {
			return &Error{Code: "AccessDenied", Message: "Access Denied", Status: http.StatusForbidden}
		}
		if isAWS(r.Host) && r.Header.Get("Authorization") != "" {
			return refuse("InvalidArgument", "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified")
		}
		blob, err := c.reg.blobs.open(digest)
		if err != nil {
			return &Error{Code: "NoSuchKey", Message: "The specified key does not exist.", Status: http.StatusNotFound}
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, blob)
		return blob.Close()
	})
}
