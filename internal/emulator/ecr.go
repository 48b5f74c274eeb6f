package emulator

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// passwordLife is how long GetAuthorizationToken's password works.
const passwordLife = 12 * time.Hour

// password is one login at the registry.
type password struct {
	who     *principal
	expires time.Time
}

func (c *Cloud) ecrOperations() map[string]operation {
	return map[string]operation{
		"GetAuthorizationToken":       {serve: c.getAuthorizationToken},
		"DescribeRepositories":        {resource: c.repositoryResource, serve: c.describeRepositories},
		"CreateRepository":            {resource: c.repositoryResource, serve: c.createRepository},
		"BatchCheckLayerAvailability": {resource: c.repositoryResource, serve: c.batchCheckLayers},
		"DescribeImages":              {resource: c.repositoryResource, serve: c.describeImages},
		"BatchGetImage":               {resource: c.repositoryResource, serve: c.batchGetImage},
		"PutImage":                    {resource: c.repositoryResource, serve: c.putImage},
	}
}

func (c *Cloud) repositoryResource(q *request) string {
	name := q.member("repositoryName")
	if name == "" {
		var in struct{ RepositoryNames []string }
		if json.Unmarshal(q.body, &in) == nil && len(in.RepositoryNames) > 0 {
			name = in.RepositoryNames[0]
		} else {
			name = "*"
		}
	}
	return c.arn("ecr", "repository/"+name)
}

// ecrHost is ECR's own name for the registry.
func (c *Cloud) ecrHost() string {
	return fmt.Sprintf("%s.dkr.ecr.%s.amazonaws.com", c.opts.Account, c.opts.Region)
}

// registryHost is the registry's name for a client that calls host.
func (c *Cloud) registryHost(host string) string {
	name := c.opts.RegistryHost
	if name == "" {
		if strings.HasSuffix(bareHost(host), ".amazonaws.com") || host == "" {
			return c.ecrHost()
		}
		name = host
	}
	c.reg.hosts[name] = true
	return name
}

func bareHost(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return host
}

func (c *Cloud) getAuthorizationToken(q *request) (any, error) {
	pass := c.unique("password") + c.unique("password")
	p := &password{who: q.who, expires: q.now.Add(passwordLife)}
	c.passwords[pass] = p
	host := c.registryHost(q.host)
	scheme := "https://"
	if !strings.HasSuffix(bareHost(host), ".amazonaws.com") {
		scheme = "http://"
	}
	return map[string]any{"authorizationData": []any{map[string]any{
		"authorizationToken": base64.StdEncoding.EncodeToString([]byte("AWS:" + pass)),
		"expiresAt":          epoch(p.expires),
		"proxyEndpoint":      scheme + host,
	}}}, nil
}

// epoch is a time as JSON 1.1 has it: seconds with milliseconds.
func epoch(t time.Time) json.Number {
	return json.Number(fmt.Sprintf("%d.%03d", t.Unix(), t.Nanosecond()/int(time.Millisecond)))
}

// Repository is an ECR repository.
type Repository struct {
	// Name is the repository's name, which may hold slashes.
	Name string
	// ImmutableTags refuses to move a tag to another digest.
	ImmutableTags bool
	// Exclusions are wildcards of tags for which the opposite holds.
	Exclusions []string
	// ScanOnPush is only remembered.
	ScanOnPush bool
}

// immutable says whether tag stays where it is.
func (r Repository) immutable(tag string) bool {
	excluded := slices.ContainsFunc(r.Exclusions, func(pattern string) bool { return like(pattern, tag) })
	return r.ImmutableTags != excluded
}

// AddRepository adds a repository and gives its URI, at the registry's host as
// Options has it.
func (c *Cloud) AddRepository(r Repository) (uri string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reg.add(r, time.Now())
	return c.registryHost("") + "/" + r.Name
}

func (c *Cloud) repositoryJSON(repo *repository, host string) map[string]any {
	mutability := "MUTABLE"
	if repo.ImmutableTags {
		mutability = "IMMUTABLE"
	}
	filters := []any{}
	for _, pattern := range repo.Exclusions {
		filters = append(filters, map[string]string{"filterType": "WILDCARD", "filter": pattern})
	}
	if len(filters) > 0 {
		mutability += "_WITH_EXCLUSION"
	}
	return map[string]any{
		"repositoryArn": c.arn("ecr", "repository/"+repo.Name), "registryId": c.opts.Account,
		"repositoryName": repo.Name, "repositoryUri": c.registryHost(host) + "/" + repo.Name,
		"createdAt": epoch(repo.created), "imageTagMutability": mutability, "imageTagMutabilityExclusionFilters": filters,
		"imageScanningConfiguration": map[string]any{"scanOnPush": repo.ScanOnPush},
		"encryptionConfiguration":    map[string]any{"encryptionType": "AES256"},
	}
}

func (c *Cloud) unknownRepository(name string) *Error {
	return refuse("RepositoryNotFoundException",
		"The repository with name '%s' does not exist in the registry with id '%s'", name, c.opts.Account)
}

func (c *Cloud) checkRegistry(id string) error {
	if id != "" && id != c.opts.Account {
		return refuse("AccessDeniedException", "The registry with id '%s' does not exist or is not shared with you", id)
	}
	return nil
}

func (c *Cloud) describeRepositories(q *request) (any, error) {
	var in struct {
		RegistryID      string `json:"registryId"`
		RepositoryNames []string
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	if err := c.checkRegistry(in.RegistryID); err != nil {
		return nil, err
	}
	names := in.RepositoryNames
	if len(names) == 0 {
		names = c.reg.names()
	}
	out := []any{}
	for _, name := range names {
		repo, exists := c.reg.repos[name]
		if !exists {
			return nil, c.unknownRepository(name)
		}
		out = append(out, c.repositoryJSON(repo, q.host))
	}
	return map[string]any{"repositories": out}, nil
}

func (c *Cloud) createRepository(q *request) (any, error) {
	var in struct {
		RepositoryName, ImageTagMutability string
		ImageTagMutabilityExclusionFilters []struct{ FilterType, Filter string }
		ImageScanningConfiguration         struct{ ScanOnPush bool }
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	if !validRepositoryName(in.RepositoryName) {
		return nil, refuse("InvalidParameterException", "Invalid parameter at 'repositoryName' failed to satisfy constraint: "+
			"'must satisfy regular expression '(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*''")
	}
	if _, exists := c.reg.repos[in.RepositoryName]; exists {
		return nil, refuse("RepositoryAlreadyExistsException",
			"The repository with name '%s' already exists in the registry with id '%s'", in.RepositoryName, c.opts.Account)
	}
	excluding := strings.HasSuffix(in.ImageTagMutability, "_WITH_EXCLUSION")
	if n := len(in.ImageTagMutabilityExclusionFilters); excluding != (n > 0) || n > 5 {
		return nil, refuse("InvalidParameterException", "Invalid parameter at 'imageTagMutabilityExclusionFilters' failed to satisfy constraint: 'must have 1 to 5 filters with a mutability that has exclusions'") // assumed
	}
	wanted := Repository{
		Name: in.RepositoryName, ImmutableTags: strings.HasPrefix(in.ImageTagMutability, "IMMUTABLE"),
		ScanOnPush: in.ImageScanningConfiguration.ScanOnPush,
	}
	for _, filter := range in.ImageTagMutabilityExclusionFilters {
		wanted.Exclusions = append(wanted.Exclusions, filter.Filter)
	}
	repo := c.reg.add(wanted, q.now)
	return map[string]any{"repository": c.repositoryJSON(repo, q.host)}, nil
}

// repository finds the one that a request names.
func (c *Cloud) repository(q *request) (*repository, error) {
	if err := c.checkRegistry(q.member("registryId")); err != nil {
		return nil, err
	}
	name := q.member("repositoryName")
	repo, exists := c.reg.repos[name]
	if !exists {
		return nil, c.unknownRepository(name)
	}
	return repo, nil
}

func (c *Cloud) batchCheckLayers(q *request) (any, error) {
	var in struct{ LayerDigests []string }
	if err := q.into(&in); err != nil {
		return nil, err
	}
	repo, err := c.repository(q)
	if err != nil {
		return nil, err
	}
	layers, failures := []any{}, []any{}
	for _, digest := range in.LayerDigests {
		size, held := repo.blobs[digest]
		switch {
		case !validDigest(digest):
			failures = append(failures, map[string]any{
				"layerDigest": digest, "failureCode": "InvalidLayerDigest",
				"failureReason": "Invalid layer digest: " + digest,
			})
		case held:
			layers = append(layers, map[string]any{
				"layerDigest": digest, "layerAvailability": "AVAILABLE", "layerSize": size,
				"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
			})
		default:
			layers = append(layers, map[string]any{"layerDigest": digest, "layerAvailability": "UNAVAILABLE"})
		}
	}
	return map[string]any{"layers": layers, "failures": failures}, nil
}

type imageID struct {
	ImageDigest string `json:"imageDigest,omitempty"`
	ImageTag    string `json:"imageTag,omitempty"`
}

// find resolves an image by digest or tag.
func (r *repository) find(id imageID) (digest string, img *image) {
	digest = id.ImageDigest
	if digest == "" {
		digest = r.tags[id.ImageTag]
	}
	return digest, r.images[digest]
}

func (c *Cloud) describeImages(q *request) (any, error) {
	var in struct {
		ImageIDs []imageID `json:"imageIds"`
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	repo, err := c.repository(q)
	if err != nil {
		return nil, err
	}
	if len(in.ImageIDs) == 0 {
		for digest := range repo.images {
			in.ImageIDs = append(in.ImageIDs, imageID{ImageDigest: digest})
		}
		slices.SortFunc(in.ImageIDs, func(a, b imageID) int { return strings.Compare(a.ImageDigest, b.ImageDigest) })
	}
	out := []any{}
	for _, id := range in.ImageIDs {
		digest, img := repo.find(id)
		if img == nil {
			return nil, refuse("ImageNotFoundException", "The image with imageId {imageDigest:'%s', imageTag:'%s'} does not exist within the repository with name '%s' in the registry with id '%s'",
				orNull(id.ImageDigest), orNull(id.ImageTag), repo.Name, c.opts.Account)
		}
		detail := map[string]any{
			"registryId": c.opts.Account, "repositoryName": repo.Name, "imageDigest": digest,
			"imagePushedAt": epoch(img.pushed), "imageManifestMediaType": img.mediaType, "imageSizeInBytes": img.size(),
		}
		if tags := repo.tagsOf(digest); len(tags) > 0 {
			detail["imageTags"] = tags
		}
		out = append(out, detail)
	}
	return map[string]any{"imageDetails": out}, nil
}

func orNull(s string) string {
	if s == "" {
		return "null"
	}
	return s
}

func (c *Cloud) imageJSON(repo *repository, id imageID, img *image) map[string]any {
	return map[string]any{
		"registryId": c.opts.Account, "repositoryName": repo.Name, "imageId": id,
		"imageManifest": string(img.raw), "imageManifestMediaType": img.mediaType,
	}
}

func (c *Cloud) batchGetImage(q *request) (any, error) {
	var in struct {
		ImageIDs []imageID `json:"imageIds"`
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	repo, err := c.repository(q)
	if err != nil {
		return nil, err
	}
	images, failures := []any{}, []any{}
	for _, id := range in.ImageIDs {
		digest, img := repo.find(id)
		if img == nil {
			failures = append(failures, map[string]any{
				"imageId": id, "failureCode": "ImageNotFound", "failureReason": "Requested image not found",
			})
			continue
		}
		images = append(images, c.imageJSON(repo, imageID{digest, id.ImageTag}, img))
	}
	return map[string]any{"images": images, "failures": failures}, nil
}

func (c *Cloud) putImage(q *request) (any, error) {
	var in struct{ ImageManifest, ImageManifestMediaType, ImageTag, ImageDigest string }
	if err := q.into(&in); err != nil {
		return nil, err
	}
	repo, err := c.repository(q)
	if err != nil {
		return nil, err
	}
	hash, _, err := v1.SHA256(strings.NewReader(in.ImageManifest))
	if err != nil {
		return nil, err
	}
	if in.ImageDigest != "" && in.ImageDigest != hash.String() {
		return nil, refuse("ImageDigestDoesNotMatchException", "The supplied image digest '%s' does not match the digest of the image manifest '%s'", in.ImageDigest, hash)
	}
	if held := repo.images[hash.String()]; held != nil && (in.ImageTag == "" || repo.tags[in.ImageTag] == hash.String()) {
		return nil, refuse("ImageAlreadyExistsException", "Image with digest '%s' and tag '%s' already exists in the repository with name '%s' in registry with id '%s'",
			hash, in.ImageTag, repo.Name, c.opts.Account)
	}
	target := in.ImageTag
	if target == "" {
		target = hash.String()
	}
	if _, err := c.storeManifest(repo, target, in.ImageManifestMediaType, []byte(in.ImageManifest), q.now); err != nil {
		return nil, apiImageError(err)
	}
	return map[string]any{"image": c.imageJSON(repo, imageID{hash.String(), in.ImageTag}, repo.images[hash.String()])}, nil
}

// apiImageError gives the registry's refusal of a manifest the API's name.
func apiImageError(e *Error) *Error {
	renamed := *e
	renamed.Status = http.StatusBadRequest
	switch e.Code {
	case "TAG_INVALID":
		renamed.Code = "ImageTagAlreadyExistsException"
	case "BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN":
		renamed.Code = "LayersNotFoundException"
	default:
		renamed.Code = "InvalidParameterException"
	}
	return &renamed
}
