package inputs

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/towline/towline/internal/problem"
)

// Settings are the action's inputs, checked.
type Settings struct {
	// Workspace is the folder that paths are relative to; empty: the current one.
	Workspace   string
	Credentials Credentials
	Registry    Registry
	Build       Build
	Task        Task
	RunTask     RunTask
	Deployment  Deployment
	// DryRun reads and plans, and writes nothing.
	DryRun bool
	// Notices and Warnings are about inputs that have no effect.
	Notices, Warnings []string
}

// Credentials says who to be on AWS.
type Credentials struct {
	// AWSRegion is empty only if nothing needs AWS.
	AWSRegion string
	// RolesToAssume are ARNs and names, each assumed from the one before.
	RolesToAssume   []string
	RoleSessionName string
	// RoleDuration is 15 minutes to 12 hours.
	RoleDuration   time.Duration
	RoleExternalID string
	// SessionTags are for roles that are assumed with credentials, the keys of
	// TransitiveTags are passed on.
	SessionTags    []SessionTag
	TransitiveTags []string
	// InlineSessionPolicy is JSON, ManagedSessionPolicies are ARNs.
	InlineSessionPolicy    string
	ManagedSessionPolicies []string
	// Audience is empty for the partition's.
	Audience string
	// WebIdentityTokenFile is a path, as it was given.
	WebIdentityTokenFile string
	// The static keys are all empty, or the first two are set.
	AWSAccessKeyID, AWSSecretAccessKey, AWSSessionToken string
	// UseExisting takes the step's credentials as they are, FromExisting assumes
	// the first role with them, SkipOIDC asks for no ID token, IgnoreKeys
	// overlooks the keys of the environment.
	UseExisting, FromExisting, SkipOIDC, IgnoreKeys bool
	// AllowedAccountIDs are twelve digits each; empty: all.
	AllowedAccountIDs []string
	// Attempts is how often a session is asked for, 1 to 100.
	Attempts int
	// HTTPProxy is a URL, perhaps with a password, or empty for the environment's,
	// as is NoProxy.
	HTTPProxy   string
	NoProxy     []string
	STSEndpoint string
	// MaskAccountID keeps the account out of the log. Output and OutputEnv hand
	// the credentials to later steps.
	MaskAccountID, Output, OutputEnv bool
	// ActionTimeout limits the whole step; 0: not.
	ActionTimeout time.Duration
}

// Build says what to build.
type Build struct {
	// Context is a path, absolute if Settings.Workspace is, or a URL. File is such
	// a path, or one inside the context if ContextHoldsFile says so.
	Context, File string
	// ContextHoldsFile says that the context is no folder: a URL, or a tar.
	ContextHoldsFile bool
	// Contexts are named contexts: an absolute path, or something with "://".
	Contexts map[string]string
	// SSH has the keys of each id.
	SSH map[string]SSHKeys
	// GitHubToken, where there is one, is good for https://GitHubHost.
	GitHubToken, GitHubHost string
	// Target is empty for the last stage.
	Target    string
	BuildArgs map[string]string
	Labels    map[string]string
	// Secrets has the values of "secrets" and "secret-envs", and, after
	// ReadSecretFiles, of "secret-files".
	Secrets map[string][]byte
	// SecretFiles has the paths of "secret-files".
	SecretFiles map[string]string
	// Tags has no duplicates. It is empty if Task.Image or PushByDigest is set.
	Tags []Tag
	Push bool
	// PushByDigest pushes without a tag, to DigestRepositories.
	PushByDigest       bool
	DigestRepositories []Repository
	// MergeDigests are pushed already, and become one index under Tags.
	MergeDigests []Digest
	// Platforms are os/arch[/variant], at least one, without duplicates.
	Platforms []string
	// Manifests says how the manifests in the registry are written, with
	// Annotations among them; those also go to the exports, and to a merged index.
	Manifests   Manifests
	Annotations []Annotation
	// Exports are written into the workspace.
	Exports []Export
	// Attestations are attached to the image.
	Attestations Attestations
	// Compression is how new layers are packed.
	Compression Compression
	// SourceDateEpoch is a Unix time, EpochCommit, EpochContext or empty.
	SourceDateEpoch string
	// Call is one of the Call constants.
	Call string
	// Cache says where build steps' results are kept.
	Cache Cache
	// NoCache takes nothing from a cache, NoCacheStages does so for those stages.
	NoCache       bool
	NoCacheStages []string
	Run           Run
	// Sandbox is one of the Sandbox constants.
	Sandbox string
}

// The sandboxes to choose from.
const (
	SandboxAuto       = "auto"
	SandboxNamespaces = "namespaces"
	SandboxInPlace    = "in-place"
	SandboxChroot     = "chroot"
)

// Builds says whether an image is built, or the Dockerfile asked a question.
func (s Settings) Builds() bool {
	if s.Merges() || s.Resumes() {
		return false
	}
	return s.Task.Image == "" && (len(s.Build.Tags) > 0 || s.Build.PushByDigest || s.Asks() || !s.Registers())
}

// Merges says whether images that were pushed become one index.
func (s Settings) Merges() bool { return len(s.Build.MergeDigests) > 0 }

// Asks says whether the Dockerfile is asked a question and nothing else is done.
func (s Settings) Asks() bool { return s.Build.Call != CallBuild }

// Pushes says whether anything is written to a registry.
func (s Settings) Pushes() bool { return s.Build.Push && !s.Asks() && (s.Builds() || s.Merges()) }

// Registers says whether a task definition is made, deployed or not.
func (s Settings) Registers() bool {
	return !s.Asks() && !s.Resumes() && (s.Deployment.Service != "" || s.Task.HasBase() || s.RunTask.Run)
}

// Deploys says whether a service is updated.
func (s Settings) Deploys() bool { return !s.Asks() && !s.Resumes() && s.Deployment.Service != "" }

// Resumes says whether a deployment that is there already is continued or
// rolled back, and nothing else is done.
func (s Settings) Resumes() bool { return s.Deployment.Continue || s.Deployment.Rollback }

// RunsTask says whether a one-off task is run.
func (s Settings) RunsTask() bool { return !s.Asks() && s.RunTask.Run }

// NeedsAWS says whether anything has to do with AWS: a role or keys, ECR, ECS.
func (s Settings) NeedsAWS() bool {
	c := s.Credentials
	if s.Registers() || s.Resumes() || len(c.RolesToAssume) > 0 || c.AWSAccessKeyID != "" || c.UseExisting || s.Registry.Repository.ECR() && !s.loggedIn(s.Registry.Repository) {
		return true
	}
	return s.Registry.Public || s.Registry.OutputDockerCredentials || len(s.Registry.Registries) > 0 ||
		slices.ContainsFunc(s.repositories(), func(r Repository) bool {
			return (r.ECR() || s.Pushes() && r.Host == PublicHost) && !s.loggedIn(r)
		}) ||
		slices.ContainsFunc(slices.Collect(maps.Values(s.Registry.RegistryMirrors)), func(mirror string) bool {
			return ECRRegion(hostOf(mirror)) != ""
		})
}

// Secrets lists every value to mask before anything is written, sorted.
func (s Settings) Secrets() []string {
	c := s.Credentials
	all := []string{c.AWSAccessKeyID, c.AWSSecretAccessKey, c.AWSSessionToken}
	if proxy, err := url.Parse(c.HTTPProxy); err == nil && proxy.User != nil {
		password, _ := proxy.User.Password()
		all = append(all, password, c.HTTPProxy)
	}
	for _, login := range s.Registry.RegistryCredentials {
		all = append(all, login.Password, base64.StdEncoding.EncodeToString([]byte(login.User+":"+login.Password)))
	}
	for _, value := range s.Build.Secrets {
		all = append(all, string(value))
	}
	all = append(all, s.Build.sourceSecrets()...)
	slices.Sort(all)
	all = slices.Compact(all)
	return slices.DeleteFunc(all, func(v string) bool { return v == "" })
}

// maxSecret is how many bytes a build secret may have, in BuildKit too.
const maxSecret = 500 << 10

// ReadSecretFiles reads the files of Build.SecretFiles into Build.Secrets, and
// those of Build.SSH. Call
// it before Secrets, so that their contents are masked too.
func (s *Settings) ReadSecretFiles() error {
	var failed []error
	for _, id := range slices.Sorted(maps.Keys(s.Build.SecretFiles)) {
		path := s.Build.SecretFiles[id]
		content, err := os.ReadFile(path) //nolint:gosec // the user names the file
		if err == nil && len(content) > maxSecret {
			err = fmt.Errorf("%s has %d bytes, more than the %d that a secret may have", path, len(content), maxSecret)
		}
		if err != nil {
			failed = append(failed, &problem.Error{
				Op: opRead, Input: "secret-files", Value: id + "=" + path, Err: err,
				Fix: "Name a readable file, relative to the workspace, which an earlier step has written.",
			})
			continue
		}
		if s.Build.Secrets == nil {
			s.Build.Secrets = map[string][]byte{}
		}
		s.Build.Secrets[id] = content
	}
	failed = append(failed, s.readSSHKeys())
	return errors.Join(failed...)
}

// region is the first region that a name shows.
func (s Settings) region() string {
	public := s.Registry.Public
	hosts := []string{s.Registry.Repository.Host}
	for _, r := range s.repositories() {
		hosts = append(hosts, r.Host)
	}
	hosts = append(hosts, s.Registry.Registries...)
	hosts = append(hosts, hostOf(s.Task.Image))
	for _, each := range s.Task.Images {
		hosts = append(hosts, hostOf(each.Value))
	}
	region := cmp.Or(arnRegion(s.Deployment.Service), s.Deployment.All()[0].Region, arnRegion(s.Deployment.Cluster), arnRegion(s.Task.Registered))
	for _, host := range hosts {
		region = cmp.Or(region, ECRRegion(host))
		public = public || host == PublicHost
	}
	if region == "" && public {
		return publicRegion
	}
	return region
}
