package emulator

import (
	"cmp"
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
	who *principal
	// region is where it is good, for all registries; public that it is ECR Public's.
	region  string
	public  bool
	expires time.Time
}

func (c *Cloud) ecrOperations() map[string]operation {
	return map[string]operation{
		"GetAuthorizationToken":       {serve: c.getAuthorizationToken},
		"DescribeRepositories":        {serve: c.describeRepositories},
		"CreateRepository":            {serve: c.createRepository},
		"BatchCheckLayerAvailability": {serve: c.batchCheckLayers},
		"DescribeImages":              {serve: c.describeImages},
		"BatchGetImage":               {serve: c.batchGetImage},
		"PutImage":                    {serve: c.putImage},
	}
}

// repositoryAccesses are those of ECR's API: all repositories that a call names.
func (c *Cloud) repositoryAccesses(q *request, on func(...string) []access) []access {
	if q.action == "GetAuthorizationToken" {
		all := on("*")
		if q.service == "ecr-public" {
			all = append(all, access{action: "sts:GetServiceBearerToken", resource: "*"})
		}
		return all
	}
	var in struct {
		RepositoryName  string
		RepositoryNames []string
	}
	if json.Unmarshal(q.body, &in) != nil {
		return on("*")
	}
	names := in.RepositoryNames
	if in.RepositoryName != "" {
		names = append(names, in.RepositoryName)
	}
	if len(names) == 0 {
		names = []string{"*"}
	}
	at := c.apiHome(q)
	var all []access
	for _, name := range names {
		all = append(all, on(at.arn(c.inHome(at, name)))...)
	}
	return all
}

// inHome is a repository's name in the registry: in ECR Public, whose API does
// without it, below the alias.
func (c *Cloud) inHome(h home, name string) string {
	if h.public {
		return c.alias(h.account) + "/" + name
	}
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
	at := home{account: q.who.account(), region: cmp.Or(hostRegion(q.host), c.opts.Region)}
	p := &password{who: q.who, region: at.region, expires: q.now.Add(passwordLife)}
	c.passwords[pass] = p
	host := c.registryHost(at, q.host)
	scheme := "https://"
	if !isAWS(host) {
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
	// Account and Region are where it is. Default: those of the cloud.
	Account, Region string
	// Alias makes it one of ECR Public, below this alias of the account.
	Alias string
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
	at := home{account: cmp.Or(r.Account, c.opts.Account), region: cmp.Or(r.Region, c.opts.Region)}
	if r.Alias != "" {
		at.region, at.public = publicRegion, true
		c.aliases[at.account] = r.Alias
		r.Name = r.Alias + "/" + r.Name
	}
	c.reg.add(at, r, time.Now())
	return c.registryHost(at, "") + "/" + r.Name
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
		"repositoryArn": repo.home.arn(repo.Name), "registryId": repo.home.account,
		"repositoryName": repo.Name, "repositoryUri": c.registryHost(repo.home, host) + "/" + repo.Name,
		"createdAt": epoch(repo.created), "imageTagMutability": mutability, "imageTagMutabilityExclusionFilters": filters,
		"imageScanningConfiguration": map[string]any{"scanOnPush": repo.ScanOnPush},
		"encryptionConfiguration":    map[string]any{"encryptionType": "AES256"},
	}
}

func unknownRepository(h home, name string) *Error {
	return refuse("RepositoryNotFoundException",
		"The repository with name '%s' does not exist in the registry with id '%s'", name, h.account)
}

func (c *Cloud) describeRepositories(q *request) (any, error) {
	var in struct{ RepositoryNames []string }
	if err := q.into(&in); err != nil {
		return nil, err
	}
	at := c.apiHome(q)
	names := in.RepositoryNames
	if len(names) == 0 {
		names = c.reg.names(at)
	}
	out := []any{}
	for _, name := range names {
		repo, exists := c.reg.repos[repositoryKey{at, name}]
		if !exists {
			return nil, unknownRepository(at, name)
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
	at := c.apiHome(q)
	if _, exists := c.reg.repos[repositoryKey{at, in.RepositoryName}]; exists {
		return nil, refuse("RepositoryAlreadyExistsException",
			"The repository with name '%s' already exists in the registry with id '%s'", in.RepositoryName, at.account)
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
	repo := c.reg.add(at, wanted, q.now)
	return map[string]any{"repository": c.repositoryJSON(repo, q.host)}, nil
}

// repository finds the one that a request names.
func (c *Cloud) repository(q *request) (*repository, error) {
	at, name := c.apiHome(q), q.member("repositoryName")
	repo, exists := c.reg.repos[repositoryKey{at, name}]
	if !exists {
		return nil, unknownRepository(at, name)
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
				orNull(id.ImageDigest), orNull(id.ImageTag), repo.Name, repo.home.account)
		}
		detail := map[string]any{
			"registryId": repo.home.account, "repositoryName": repo.Name, "imageDigest": digest,
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
		"registryId": repo.home.account, "repositoryName": repo.Name, "imageId": id,
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
			hash, in.ImageTag, repo.Name, repo.home.account)
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
