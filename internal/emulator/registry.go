package emulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const expiredPassword = "Your authorization token has expired. Reauthenticate and try again."

// registryStore is what the registries hold. go-containerregistry's registry
// keeps and serves manifests, tags and referrers, one for each home. Blobs are kept here, because
// its blob store knows no repositories and no mounts, and holds every upload
// in memory whole.
type registryStore struct {
	manifests map[home]http.Handler
	blobs     blobStore
	repos     map[repositoryKey]*repository
	uploads   map[string]*upload
	// hosts are the names besides ECR's own under which the registry was given out.
	hosts map[string]bool
}

type repository struct {
	Repository

	home    home
	created time.Time
	// policy says who may use it besides those whose own policies say so.
	policy *policyDocument
	// shelf has the manifests.
	shelf http.Handler
	// blobs holds the size of each blob of the repository.
	blobs  map[string]int64
	images map[string]*image
	tags   map[string]string
}

type image struct {
	mediaType string
	raw       []byte
	pushed    time.Time
	config    v1.Descriptor
	layers    []v1.Descriptor
	children  []v1.Descriptor
}

func (i *image) size() int64 {
	var n int64
	for _, layer := range i.layers {
		n += layer.Size
	}
	return n
}

func newRegistryStore(dir string) *registryStore {
	s := &registryStore{
		manifests: map[home]http.Handler{},
		blobs:     &memoryBlobs{held: map[string][]byte{}},
		repos:     map[repositoryKey]*repository{},
		uploads:   map[string]*upload{},
		hosts:     map[string]bool{},
	}
	if dir != "" {
		s.blobs = diskBlobs{dir: dir}
	}
	return s
}

func (s *registryStore) add(at home, r Repository, now time.Time) *repository {
	if s.manifests[at] == nil {
		s.manifests[at] = registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
	}
	repo := &repository{
		Repository: r, home: at, created: now, shelf: s.manifests[at],
		blobs: map[string]int64{}, images: map[string]*image{}, tags: map[string]string{},
	}
	s.repos[repositoryKey{at, r.Name}] = repo
	return repo
}

// names are the repositories of one registry.
func (s *registryStore) names(at home) []string {
	var names []string
	for key := range s.repos {
		if key.home == at {
			names = append(names, key.name)
		}
	}
	slices.Sort(names)
	return names
}

func (r *repository) tagsOf(digest string) []string {
	var tags []string
	for tag, d := range r.tags {
		if d == digest {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags
}

func validDigest(s string) bool {
	_, err := v1.NewHash(s)
	return err == nil
}

func validRepositoryName(s string) bool {
	return regexp.MustCompile(`^(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*$`).MatchString(s) &&
		len(s) >= 2 && len(s) <= 256
}

// object is what a registry URL names.
type object struct {
	repo, kind, ref string
}

// splitPath takes /v2/NAME/KIND/REF apart; ok is false for anything else.
func splitPath(path string) (o object, ok bool) {
	m := regexp.MustCompile(`^/v2/(.+)/(blobs/uploads|blobs|manifests|tags|referrers)/([^/]*)$`).FindStringSubmatch(path)
	if m == nil {
		return object{}, false
	}
	kinds := map[string]string{
		"blobs/uploads": "upload", "blobs": "blob", "manifests": "manifest", "tags": "tags", "referrers": "referrers",
	}
	return object{repo: m[1], kind: kinds[m[2]], ref: m[3]}, true
}

// permission is the IAM action that a registry request needs.
func (o object) permission(method string) string {
	read := method == http.MethodGet || method == http.MethodHead
	switch {
	case o.kind == "blob" && method == http.MethodHead:
		return "ecr:BatchCheckLayerAvailability"
	case o.kind == "blob" && method == http.MethodGet:
		return "ecr:GetDownloadUrlForLayer"
	case o.kind == "upload" && method == http.MethodPost:
		return "ecr:InitiateLayerUpload"
	case o.kind == "upload" && method == http.MethodPatch:
		return "ecr:UploadLayerPart"
	case o.kind == "upload" && method == http.MethodPut:
		return "ecr:CompleteLayerUpload"
	case o.kind == "manifest" && read:
		return "ecr:BatchGetImage"
	case o.kind == "manifest" && method == http.MethodPut:
		return "ecr:PutImage"
	case o.kind == "tags" && read:
		return "ecr:ListImages"
	case o.kind == "referrers" && read:
		return "ecr:ListImageReferrers"
	default:
		return ""
	}
}

func (c *Cloud) serveRegistry(w http.ResponseWriter, r *http.Request) {
	o, named := splitPath(r.URL.Path)
	call := &Call{Service: "registry", Action: r.Method + " " + o.kind, Time: time.Now()}
	if !named {
		call.Action = r.Method + " v2"
	}
	if o.kind == "upload" && r.URL.Query().Get("mount") != "" {
		call.Action = "MOUNT blob"
	}
	if c.nowhere(o, r.Method) {
		call.Action = r.Method + " no " + o.kind
	}
	c.exchange(w, r, call, writeRegistryError, func(w http.ResponseWriter, f *Fault) error {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		permission := o.permission(r.Method)
		who, notLoggedIn := c.login(w, r)
		if err := f.refusal(&request{who: who, action: permission}, "registry"); err != nil {
			return err
		}
		if notLoggedIn != nil {
			return notLoggedIn
		}
		call.AccessKey, call.Principal = who.accessKey, who.arn
		switch {
		case !named && strings.Trim(r.URL.Path, "/") == "v2":
			w.WriteHeader(http.StatusOK)
			return nil
		case permission == "":
			return &Error{Code: "UNSUPPORTED", Message: "The operation is unsupported.", Status: http.StatusMethodNotAllowed}
		}
		repo, err := c.admit(r, who, o, permission)
		if err != nil {
			return err
		}
		switch o.kind {
		case "blob":
			return c.serveBlob(w, r, repo, o.ref)
		case "upload":
			return c.serveUpload(w, r, repo, o.ref, call)
		case "manifest":
			return c.serveManifest(w, r, repo, o.ref)
		default:
			return c.serveListing(w, r, repo)
		}
	})
}

// admit finds the repository of a request, if the caller may do that there.
func (c *Cloud) admit(r *http.Request, who *principal, o object, permission string) (*repository, error) {
	c.mu.Lock()
	at, repo := c.repositoryAt(c.registryHome(r.Host), o.repo)
	denied := c.mayAt(who, at, o.repo, permission)
	c.mu.Unlock()
	if denied != nil {
		return nil, denied
	}
	if cached, err := c.pullThrough(r, who, at, o); cached != nil || err != nil {
		return cached, err
	}
	if repo == nil {
		return nil, noRepository(at, o.repo)
	}
	return repo, nil
}

// noRepository is unknownRepository in the registry's words.
func noRepository(at home, name string) *Error {
	return &Error{
		Code: "NAME_UNKNOWN", Status: http.StatusNotFound,
		Message: fmt.Sprintf("The repository with name '%s' does not exist in the registry with id '%s'", name, at.account),
	}
}

// mayAt checks an action on a repository, in the registry's words. Everybody may
// read what is public. c.mu is held.
func (c *Cloud) mayAt(who *principal, at home, name, action string) error {
	if at.public {
		// Assumed: who logs in needs the right that pushing is documented to need.
		if isRead(action) && (action != "ecr:BatchCheckLayerAvailability" || who.accessKey == "") {
			return nil
		}
		action = "ecr-public:" + strings.TrimPrefix(action, "ecr:")
	}
	denied := c.check(who, access{action: action, resource: at.arn(name)})
	if denied == nil {
		return nil
	}
	denied.Code, denied.Status = "DENIED", http.StatusForbidden
	return denied
}

// isRead says whether an action on a repository reads an image.
func isRead(action string) bool {
	return slices.Contains([]string{
		"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:ListImages", "ecr:ListImageReferrers", "ecr:BatchCheckLayerAvailability",
	}, action)
}

// nowhere says whether a request writes to what cannot be: an upload that was not
// begun, a digest that no content has. Such requests ask for rights alone.
func (c *Cloud) nowhere(o object, method string) bool {
	if o.kind == "manifest" {
		return method == http.MethodPut && strings.Trim(o.ref, "0") == "sha256:"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return o.kind == "upload" && o.ref != "" && c.reg.uploads[o.ref] == nil
}

// login checks the Basic credentials that GetAuthorizationToken gave out.
func (c *Cloud) login(w http.ResponseWriter, r *http.Request) (*principal, error) {
	at := c.registryHome(r.Host)
	if at.public {
		return c.publicLogin(w, r)
	}
	user, pass, given := r.BasicAuth()
	c.mu.Lock()
	defer c.mu.Unlock()
	p, known := c.passwords[pass]
	// Assumed: a password of another region is no password.
	if !given || user != "AWS" || !known || p.public || p.region != at.region {
		w.Header().Set("Www-Authenticate", fmt.Sprintf("Basic realm=%q,service=%q", "https://"+at.host()+"/", "ecr.amazonaws.com"))
		return nil, &Error{Code: "UNAUTHORIZED", Message: "Not Authorized", Status: http.StatusUnauthorized}
	}
	if !time.Now().Before(p.expires) {
		return nil, &Error{Code: "DENIED", Message: expiredPassword, Status: http.StatusForbidden}
	}
	return p.who, nil
}

func writeRegistryError(w http.ResponseWriter, e *Error, _ string) error {
	body, err := json.Marshal(map[string]any{"errors": []any{map[string]string{"code": e.Code, "message": e.Message}}})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	return write(w, e.Status, body)
}

func (c *Cloud) serveManifest(w http.ResponseWriter, r *http.Request, repo *repository, ref string) error {
	if r.Method == http.MethodPut {
		raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
		if err != nil {
			return &Error{Code: "MANIFEST_INVALID", Message: err.Error()}
		}
		c.mu.Lock()
		digest, refusal := c.storeManifest(repo, ref, r.Header.Get("Content-Type"), raw, time.Now())
		c.mu.Unlock()
		if refusal != nil {
			return refusal
		}
		w.Header().Set("Docker-Content-Digest", digest)
		w.Header().Set("Location", "/v2/"+repo.Name+"/manifests/"+ref)
		w.WriteHeader(http.StatusCreated)
		return nil
	}
	c.mu.Lock()
	id := imageID{ImageTag: ref}
	if validDigest(ref) {
		id = imageID{ImageDigest: ref}
	}
	_, img := repo.find(id)
	c.mu.Unlock()
	if img == nil {
		return &Error{Code: "MANIFEST_UNKNOWN", Message: "Requested image not found", Status: http.StatusNotFound}
	}
	repo.shelf.ServeHTTP(w, r)
	return nil
}

func (c *Cloud) serveListing(w http.ResponseWriter, r *http.Request, repo *repository) error {
	c.mu.Lock()
	empty := len(repo.images) == 0
	c.mu.Unlock()
	if !empty {
		repo.shelf.ServeHTTP(w, r)
		return nil
	}
	if strings.HasSuffix(r.URL.Path, "/tags/list") {
		w.Header().Set("Content-Type", "application/json")
		return write(w, http.StatusOK, fmt.Appendf(nil, `{"name":%q,"tags":[]}`, repo.Name))
	}
	w.Header().Set("Content-Type", string(types.OCIImageIndex))
	return write(w, http.StatusOK, []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`))
}

// storeManifest takes a manifest under ECR's rules: what it refers to must be
// in the repository, and an immutable tag stays. c.mu is held.
func (c *Cloud) storeManifest(repo *repository, target, mediaType string, raw []byte, now time.Time) (string, *Error) {
	hash, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return "", &Error{Code: "MANIFEST_INVALID", Message: err.Error()}
	}
	digest := hash.String()
	img, refusal := c.parseManifest(repo, mediaType, raw)
	if refusal != nil {
		return "", refusal
	}
	img.pushed = now
	if validDigest(target) {
		if target != digest {
			return "", refuse("DIGEST_INVALID", "The provided digest '%s' does not match the computed digest '%s'", target, digest)
		}
	} else if held, tagged := repo.tags[target]; tagged && held != digest && repo.immutable(target) {
		return "", refuse("TAG_INVALID", "The image tag '%s' already exists in the '%s' repository and cannot be overwritten because the tag is immutable.",
			target, repo.Name)
	}
	put := &http.Request{
		Method: http.MethodPut, Header: http.Header{"Content-Type": {img.mediaType}},
		Body: io.NopCloser(bytes.NewReader(raw)),
	}
	if put.URL, err = url.Parse("/v2/" + repo.Name + "/manifests/" + target); err != nil {
		return "", &Error{Code: "NAME_INVALID", Message: err.Error()}
	}
	rec := &recorder{header: http.Header{}}
	repo.shelf.ServeHTTP(rec, put)
	if rec.status != http.StatusCreated {
		return "", &Error{Code: "MANIFEST_INVALID", Message: strings.TrimSpace(rec.body.String())}
	}
	if _, held := repo.images[digest]; !held {
		repo.images[digest] = img
	}
	if !validDigest(target) {
		repo.tags[target] = digest
	}
	return digest, nil
}

// parseManifest reads a manifest and checks that its parts are there.
func (c *Cloud) parseManifest(repo *repository, mediaType string, raw []byte) (*image, *Error) {
	var doc struct {
		SchemaVersion int
		MediaType     string
		Config        v1.Descriptor
		Layers        []v1.Descriptor
		Manifests     []v1.Descriptor
	}
	if err := json.Unmarshal(raw, &doc); err != nil || doc.SchemaVersion != 2 {
		return nil, refuse("MANIFEST_INVALID", "Invalid JSON syntax or unsupported schema version")
	}
	if doc.MediaType != "" {
		if mediaType != "" && mediaType != doc.MediaType {
			return nil, refuse("MANIFEST_INVALID", "Manifest media type '%s' does not match the request's '%s'", doc.MediaType, mediaType)
		}
		mediaType = doc.MediaType
	}
	kind := types.MediaType(mediaType)
	if !kind.IsImage() && !kind.IsIndex() {
		return nil, refuse("MANIFEST_INVALID", "Manifest media type '%s' is not supported", mediaType)
	}
	img := &image{mediaType: mediaType, raw: raw, config: doc.Config, layers: doc.Layers, children: doc.Manifests}
	// Assumed: the text for layers, after the one for images.
	code, what, missing := "BLOB_UNKNOWN", "Layers", repo.missingBlobs(img)
	if kind.IsIndex() {
		code, what, missing = "MANIFEST_BLOB_UNKNOWN", "Images", repo.missingImages(img)
	}
	if len(missing) > 0 {
		return nil, refuse(code, "%s with digests '[%s]' required for pushing image into repository with name '%s' in the registry with id '%s' do not exist",
			what, strings.Join(missing, ", "), repo.Name, repo.home.account)
	}
	return img, nil
}

// missingImages lists the images of an index that the repository lacks.
func (r *repository) missingImages(index *image) []string {
	var missing []string
	for _, child := range index.children {
		if r.images[child.Digest.String()] == nil {
			missing = append(missing, child.Digest.String())
		}
	}
	return missing
}

// missingBlobs lists the blobs of an image that the repository lacks.
func (r *repository) missingBlobs(img *image) []string {
	var missing []string
	for _, part := range append([]v1.Descriptor{img.config}, img.layers...) {
		if _, held := r.blobs[part.Digest.String()]; !held && part.MediaType.IsDistributable() {
			missing = append(missing, part.Digest.String())
		}
	}
	return missing
}
