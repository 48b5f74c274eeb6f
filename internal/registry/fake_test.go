package registry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	ecrHost = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
	hub     = "index.docker.io"
)

// fake is a set of registries, one per host, behind one http.RoundTripper. It
// adds to go-containerregistry's what ECR does: blobs belong to repositories,
// logins, missing repositories, immutable tags.
type fake struct {
	mu       sync.Mutex
	hosts    map[string]http.Handler
	blobs    map[string]map[v1.Hash][]byte // by host/repository
	requests []string
	tags     map[string]string // by path, what was PUT

	// password, if set, is what ECR's hosts ask for.
	password string
	// missing are repositories that do not exist.
	missing []string
	// immutable: tags cannot be moved.
	immutable bool
	// mounts: blobs can be mounted.
	mounts bool
	// fault, if it gives an answer or an error, is asked first.
	fault func(*http.Request) (*http.Response, error)
}

func newFake() *fake {
	return &fake{hosts: map[string]http.Handler{}, blobs: map[string]map[v1.Hash][]byte{}, tags: map[string]string{}, mounts: true}
}

// repoBlobs keeps the blobs of one host by repository.
type repoBlobs struct {
	fake *fake
	host string
}

func (b *repoBlobs) of(repo string) map[v1.Hash][]byte {
	// For uploads go-containerregistry takes one element of the path too many.
	key := b.host + "/" + strings.TrimSuffix(strings.TrimPrefix(repo, b.host), "/blobs")
	if b.fake.blobs[key] == nil {
		b.fake.blobs[key] = map[v1.Hash][]byte{}
	}
	return b.fake.blobs[key]
}

func (b *repoBlobs) Stat(_ context.Context, repo string, h v1.Hash) (int64, error) {
	b.fake.mu.Lock()
	defer b.fake.mu.Unlock()
	data, ok := b.of(repo)[h]
	if !ok {
		return 0, registry.ErrNotFound
	}
	return int64(len(data)), nil
}

func (b *repoBlobs) Get(_ context.Context, repo string, h v1.Hash) (io.ReadCloser, error) {
	b.fake.mu.Lock()
	defer b.fake.mu.Unlock()
	data, ok := b.of(repo)[h]
	if !ok {
		return nil, registry.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (b *repoBlobs) Put(_ context.Context, repo string, h v1.Hash, rc io.ReadCloser) error {
	defer func() { _ = rc.Close() }()
	data, err := io.ReadAll(rc)
	if err != nil {
		return err
	}
	b.fake.mu.Lock()
	defer b.fake.mu.Unlock()
	b.of(repo)[h] = data
	return nil
}

func (f *fake) host(host string) (http.Handler, *repoBlobs) {
	f.mu.Lock()
	defer f.mu.Unlock()
	blobs := &repoBlobs{fake: f, host: host}
	if f.hosts[host] == nil {
		f.hosts[host] = registry.New(registry.WithBlobHandler(blobs), registry.Logger(log.New(io.Discard, "", 0)))
	}
	return f.hosts[host], blobs
}

// RoundTrip answers in the calling goroutine.
func (f *fake) RoundTrip(req *http.Request) (*http.Response, error) {
	f.mu.Lock()
	f.requests = append(f.requests, req.Method+" "+req.URL.Host+req.URL.RequestURI())
	fault := f.fault
	f.mu.Unlock()
	if req.Body == nil {
		req.Body = http.NoBody
	}
	defer func() { _ = req.Body.Close() }()
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if fault != nil {
		if resp, err := fault(req); resp != nil || err != nil {
			if resp != nil {
				resp.Request = req
			}
			return resp, err
		}
	}
	rec := httptest.NewRecorder()
	f.ServeHTTP(rec, req)
	resp := rec.Result()
	resp.Request = req
	return resp, nil
}

func (f *fake) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	host := cmp.Or(req.URL.Host, req.Host)
	handler, blobs := f.host(host)
	_, _, isECR := ECRHost(host)
	switch _, password, _ := req.BasicAuth(); {
	case f.password != "" && isECR && password != f.password:
		w.Header().Set("WWW-Authenticate", `Basic realm="ecr"`)
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "no basic auth credentials")
		return
	case !isECR && req.Header.Get("Authorization") != "" && f.password != "":
		refuse(w, http.StatusTeapot, "LEAKED", "ECR's password was sent to "+host)
		return
	}
	path := strings.TrimPrefix(req.URL.Path, "/v2/")
	for _, repo := range f.missing {
		if strings.HasPrefix(path, repo+"/") {
			refuse(w, http.StatusNotFound, "NAME_UNKNOWN", fmt.Sprintf("The repository with name '%s' does not exist in the registry with id '123456789012'", repo))
			return
		}
	}
	query := req.URL.Query()
	if repo, isUpload := strings.CutSuffix(path, "/blobs/uploads/"); isUpload && query.Get("mount") != "" && f.mounts {
		h, err := v1.NewHash(query.Get("mount"))
		f.mu.Lock()
		data, ok := blobs.of(query.Get("from"))[h]
		if ok && err == nil {
			blobs.of(repo)[h] = data
		}
		f.mu.Unlock()
		if ok {
			w.WriteHeader(http.StatusCreated)
			return
		}
	}
	if _, tag, ok := strings.Cut(path, "/manifests/"); ok && req.Method == http.MethodPut && !strings.HasPrefix(tag, "sha256:") {
		body, _ := io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(body))
		f.mu.Lock()
		_, taken := f.tags[host+"/"+path]
		f.tags[host+"/"+path] = string(body)
		f.mu.Unlock()
		if taken && f.immutable {
			refuse(w, http.StatusBadRequest, "TAG_INVALID", fmt.Sprintf("The image tag '%s' already exists in the 'r' repository and cannot be overwritten because the tag is immutable.", tag))
			return
		}
	}
	handler.ServeHTTP(w, req)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}

func answer(status int, header map[string]string, body string) *http.Response {
	rec := httptest.NewRecorder()
	for k, v := range header {
		rec.Header().Set(k, v)
	}
	rec.WriteHeader(status)
	_, _ = rec.WriteString(body)
	return rec.Result()
}

// count says how many requests began so.
func (f *fake) count(method, contains string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, r := range f.requests {
		if strings.HasPrefix(r, method+" ") && strings.Contains(r, contains) {
			n++
		}
	}
	return n
}

func (f *fake) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = nil
}

// fakeECR is an ECRTokens with state.
type fakeECR struct {
	mu        sync.Mutex
	endpoint  string
	passwords []string // handed out one after the other, the last for ever
	asked     []string // regions
	err       error
	repos     map[string]Repository
	repoErr   error
	described []string // the names of each call
	layerErr  error
	createErr error
}

func (e *fakeECR) Region() string { return "eu-central-1" }

func (e *fakeECR) Token(_ context.Context, at Place) (Token, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, at.Region)
	if e.err != nil {
		return Token{}, e.err
	}
	password := e.passwords[min(len(e.asked), len(e.passwords))-1]
	return Token{User: "AWS", Password: password, Endpoint: cmp.Or(e.endpoint, "https://"+ecrHost), Expires: time.Now().Add(12 * time.Hour)}, nil
}

// codedError is an AWS error as the SDK gives it.
type codedError string

func (e codedError) Error() string     { return "api error " + string(e) }
func (e codedError) ErrorCode() string { return string(e) }

func (e *fakeECR) Repositories(_ context.Context, at Place, names []string) ([]Repository, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.described = append(e.described, strings.Join(names, " "))
	if e.repoErr != nil {
		return nil, e.repoErr
	}
	var all []Repository
	for _, name := range names {
		found, ok := e.repos[name]
		if !ok {
			return nil, fmt.Errorf("%s/%s: %w", at.Region, at.Account, codedError("RepositoryNotFoundException"))
		}
		found.Name = name
		all = append(all, found)
	}
	return all, nil
}

func (e *fakeECR) Create(_ context.Context, _ Place, r Repository) (Repository, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.repos[r.Name] = r
	return r, e.createErr
}

func (e *fakeECR) CheckLayer(_ context.Context, _ Place, repository, _ string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.layerErr != nil {
		return e.layerErr
	}
	if _, ok := e.repos[repository]; !ok && e.repoErr == nil {
		return codedError("RepositoryNotFoundException")
	}
	return nil
}

// events collects what a client reports.
type events struct {
	mu  sync.Mutex
	all []Event
}

func (e *events) add(event Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

// take gives "kind what" for each event since the last time, sorted.
func (e *events) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var kinds []string
	for _, event := range e.all {
		what, name, _ := strings.Cut(event.Object, " ")
		if what == "tag" {
			what += " " + name
		}
		kinds = append(kinds, string(event.Kind)+" "+what)
	}
	e.all = nil
	slices.Sort(kinds)
	return kinds
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// image makes an image with some layers and a platform.
func image(t *testing.T, layers int64, platform string) v1.Image {
	t.Helper()
	img := must[v1.Image](t)(random.Image(2048, layers))
	config := must[*v1.ConfigFile](t)(img.ConfigFile())
	config.OS, config.Architecture, _ = strings.Cut(cmp.Or(platform, "linux/amd64"), "/")
	config.Architecture, config.Variant, _ = strings.Cut(config.Architecture, "/")
	img = must[v1.Image](t)(mutate.ConfigFile(img, config))
	return mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
}

// index makes an index of images for the platforms, an attestation among them.
func index(t *testing.T, platforms ...string) (v1.ImageIndex, map[string]v1.Hash) {
	t.Helper()
	var idx v1.ImageIndex = empty.Index
	digests := map[string]v1.Hash{}
	for _, p := range append(platforms, "unknown/unknown") {
		img := image(t, 1, p)
		platform := must[*v1.Platform](t)(v1.ParsePlatform(p))
		digests[p] = must[v1.Hash](t)(img.Digest())
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: platform}})
	}
	return idx, digests
}

// broken ends a body early.
type broken struct {
	io.Reader
	err error
}

func (b *broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = b.err
	}
	return n, err
}

func (b *broken) Close() error { return nil }

func basicOf(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}
