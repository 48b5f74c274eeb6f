// Package emulator is a stand-in for what a deployment talks to: GitHub's OIDC
// issuer, and AWS STS, ECR with its docker registry, ECS with a rolling
// scheduler, and CloudWatch Logs; and for what a task definition names in Secrets
// Manager, the Parameter Store and IAM.
//
// It answers over the real wire protocols, so the real SDK and the real
// registry client talk to it, and it is as strict as the services are:
// signatures are recomputed, ID tokens are verified against the role's trust
// policy, sessions and registry passwords expire, a blob belongs to a
// repository. Error codes and texts are the services' own; the few that no
// public source shows are marked as assumed where they are made.
//
// Time is time.Now alone, and nothing runs in the background: the scheduler
// catches up with the clock at each call. So inside testing/synctest a rollout
// takes no real time and always goes the same way.
package emulator

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Options says what the emulated account is like. The zero value works.
type Options struct {
	// Region is the only one that everything but ECR is in. Default:
	// us-east-1.
	Region string
	// Account, 12 digits, is the one that everything is in by default: others have
	// roles and repositories alone. Default: 123456789012.
	Account string
	// RegistryHost is the host, with port, that ECR names as its registry in
	// repositoryUri and proxyEndpoint. Default: the host at which ECR's API was
	// called when that is no AWS name (a loopback address), else ECR's own
	// ACCOUNT.dkr.ecr.REGION.amazonaws.com.
	RegistryHost string
	// Dir holds the registry's blobs. Default: they are kept in memory.
	Dir string
	// Pace is how long each phase of a task takes: provisioning, pulling,
	// becoming healthy, stopping. Default: one second.
	Pace time.Duration
	// Minute is how long ECS takes for a minute between two shares of the traffic
	// and of baking. Default: a minute.
	Minute time.Duration
	// Job is the workflow job that ID tokens speak of.
	Job Job
	// NoBlobMounting answers mount requests with an upload session, as an
	// account does whose BLOB_MOUNTING setting is off.
	NoBlobMounting bool
	// Key signs ID tokens. Default: a fresh RSA key, made at the first token;
	// tests that make many clouds save time by sharing one.
	Key *rsa.PrivateKey
	// ClockAhead is how far the clocks of AWS and GitHub are ahead of this
	// machine's: requests are signed and sessions end by theirs.
	ClockAhead time.Duration
	// Busy is how many calls others make to ECS for each that it allows: with 10,
	// a random one of eleven calls gets through, the others are throttled.
	Busy float64
	// Rates holds callers to the rates of ECS's API, which are for the whole
	// account: what is too much is throttled.
	Rates bool
	// Seed tells apart the identifiers, keys and passwords of two clouds. Two
	// clouds with the same seed that are asked the same give the same ones.
	Seed uint64
}

// Cloud is an AWS account, with GitHub's token issuer beside it, and what others
// have that a deployment may touch: roles and repositories. It is an
// http.Handler that routes by host, path, X-Amz-Target and the signature's
// scope, so one loopback address serves everything. It is safe for concurrent
// use.
type Cloud struct {
	opts Options
	// signer makes the issuer's key at the first ID token: it takes a moment.
	signer func() (*rsa.PrivateKey, error)
	apis   map[string]api

	mu        sync.Mutex
	dice      *rand.Rand
	serial    map[string]int
	providers map[string]Provider
	roles     map[string]*role
	keys      map[string]*principal
	passwords map[string]*password
	managed   map[string]*policyDocument
	buckets   map[string]*tokens
	packed    int
	around    Surroundings
	calls     []Call
	faults    []*fault
	reg       *registryStore
	// aliases are those of ECR Public by account, caches the rules of
	// pull-through caches.
	aliases map[string]string
	caches  []PullThrough
	ecs     *ecsState
	code    codeState
	logs    map[string]*logGroup
	// secrets and parameters by name, instances by cluster.
	secrets    map[string]*secret
	parameters map[string]time.Time
	instances  map[string][]instance
}

// New makes an account with GitHub's OIDC provider (audience
// sts.amazonaws.com) and nothing else.
func New(opts Options) *Cloud {
	if opts.Region == "" {
		opts.Region = "us-east-1"
	}
	if opts.Account == "" {
		opts.Account = "123456789012"
	}
	if opts.Pace <= 0 {
		opts.Pace = time.Second
	}
	if opts.Minute <= 0 {
		opts.Minute = time.Minute
	}
	opts.Job = opts.Job.withDefaults()
	c := &Cloud{
		opts:      opts,
		signer:    sync.OnceValues(opts.signingKey),
		serial:    map[string]int{},
		providers: map[string]Provider{},
		roles:     map[string]*role{},
		keys:      map[string]*principal{},
		passwords: map[string]*password{},
		managed:   map[string]*policyDocument{},
		buckets:   map[string]*tokens{},
		packed:    packedLimit,
		dice:      rand.New(rand.NewPCG(opts.Seed, 1)), //nolint:gosec // to be repeatable, not to be secret
		logs:      map[string]*logGroup{},
		aliases:   map[string]string{},

		secrets: map[string]*secret{}, parameters: map[string]time.Time{}, instances: map[string][]instance{},
	}
	c.reg = newRegistryStore(opts.Dir)
	if opts.RegistryHost != "" {
		c.reg.hosts[opts.RegistryHost] = true
	}
	c.ecs = newECSState()
	c.apis = map[string]api{
		"AmazonEC2ContainerServiceV20141113":   {service: "ecs", operations: c.ecsOperations()},
		"AmazonEC2ContainerRegistry_V20150921": {service: "ecr", operations: c.ecrOperations()},
		"SpencerFrontendService":               {service: "ecr-public", operations: c.publicOperations()},
		"Logs_20140328":                        {service: "logs", operations: c.logsOperations()},
		"secretsmanager":                       {service: "secretsmanager", operations: c.secretsOperations()},
		"AmazonSSM":                            {service: "ssm", operations: c.parameterOperations()},
		"CodeDeploy_20141006":                  {service: "codedeploy", operations: c.codeDeployOperations()},
	}
	c.AddProvider(Provider{URL: githubIssuer, Audiences: []string{"sts.amazonaws.com"}})
	return c
}

// ServeHTTP answers every service's requests.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	switch {
	case strings.HasPrefix(r.Host, "169.254."):
		c.serveSurroundings(w, r)
	case strings.HasPrefix(path, idTokenPath):
		c.serveIDToken(w, r)
	case strings.HasPrefix(path, "/.well-known/"):
		c.serveDiscovery(w, r)
	case bareHost(r.Host) == publicHost && strings.HasPrefix(path, "/token"):
		c.servePublicToken(w, r)
	case path == "/v2" || strings.HasPrefix(path, "/v2/"):
		c.serveRegistry(w, r)
	case strings.HasPrefix(path, layerPath):
		c.serveLayer(w, r)
	case r.Header.Get("X-Amz-Target") != "":
		c.serveJSON(w, r)
	case signedFor(r, "iam"):
		c.serveIAM(w, r)
	case signedFor(r, "elasticloadbalancing"):
		c.serveBalancers(w, r)
	case r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		c.serveQuery(w, r)
	default:
		http.Error(w, "no such service", http.StatusNotFound)
	}
}

// now is the time by AWS's clock.
func (c *Cloud) now() time.Time { return time.Now().Add(c.opts.ClockAhead) }

// arn names a resource of the account.
func (c *Cloud) arn(service, resource string) string {
	region := c.opts.Region
	if service == "iam" || service == "sts" {
		region = ""
	}
	return fmt.Sprintf("arn:aws:%s:%s:%s:%s", service, region, c.opts.Account, resource)
}

// unique gives a fresh run of 64 hex digits; the same each time for the same
// seed, kind and turn, so that transcripts can be compared. c.mu is held.
func (c *Cloud) unique(kind string) string {
	c.serial[kind]++
	sum := sha256.Sum256(fmt.Appendf(nil, "%d/%s/%d", c.opts.Seed, kind, c.serial[kind]))
	return hex.EncodeToString(sum[:])
}

// digits turns hex digits into n decimal ones, the first never 0.
func digits(hexDigits string, n int) string {
	b := make([]byte, n)
	for i := range b {
		d := hexDigits[i%len(hexDigits)]
		if d >= 'a' {
			d = '0' + (d-'a')%10
		}
		if i == 0 && d == '0' {
			d = '4'
		}
		b[i] = d
	}
	return string(b)
}
