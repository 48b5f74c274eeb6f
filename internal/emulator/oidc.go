package emulator

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"time"
)

const (
	githubIssuer = "https://token.actions.githubusercontent.com"
	idTokenPath  = "/idtoken/"
	// tokenLife is exp-iat of GitHub's tokens.
	tokenLife = 5 * time.Minute
)

// Job is the workflow job that the ID tokens speak of. Empty fields get those
// of a push to the main branch of acme/shop.
type Job struct {
	// Repository is OWNER/NAME.
	Repository string
	// OwnerID and RepositoryID are the numbers behind the names.
	OwnerID, RepositoryID string
	// Ref is the full ref: refs/heads/main.
	Ref string
	// SHA is the commit.
	SHA string
	// Environment is the job's environment, or empty. It replaces the ref in sub.
	Environment string
	// Event is the event's name: push, pull_request.
	Event string
	// RunID and RunAttempt name the run.
	RunID, RunAttempt string
	// Workflow is the workflow's file name.
	Workflow string
	// Actor is who started the run.
	Actor string
	// ImmutableSubject gives sub the form that repositories have since July
	// 2026: repo:OWNER@ID/NAME@ID:...
	ImmutableSubject bool
	// Claims replaces or adds claims by name; nil removes one.
	Claims map[string]any
}

func (j Job) withDefaults() Job {
	j.Repository = cmp.Or(j.Repository, "acme/shop")
	j.OwnerID = cmp.Or(j.OwnerID, "7001")
	j.RepositoryID = cmp.Or(j.RepositoryID, "90210")
	j.Ref = cmp.Or(j.Ref, "refs/heads/main")
	j.SHA = cmp.Or(j.SHA, "8f3ad1c0b6a94b7f0c3d5e9a1f2b4c6d8e0f1a2b")
	j.Event = cmp.Or(j.Event, "push")
	j.RunID = cmp.Or(j.RunID, "4711")
	j.RunAttempt = cmp.Or(j.RunAttempt, "1")
	j.Workflow = cmp.Or(j.Workflow, "deploy.yml")
	j.Actor = cmp.Or(j.Actor, "octocat")
	return j
}

// Subject is the sub claim of the job's tokens.
func (j Job) Subject() string {
	j = j.withDefaults()
	owner, name, _ := strings.Cut(j.Repository, "/")
	repo := j.Repository
	if j.ImmutableSubject {
		repo = owner + "@" + j.OwnerID + "/" + name + "@" + j.RepositoryID
	}
	switch {
	case j.Environment != "":
		return "repo:" + repo + ":environment:" + j.Environment
	case j.Event == "pull_request":
		return "repo:" + repo + ":pull_request"
	default:
		return "repo:" + repo + ":ref:" + j.Ref
	}
}

func (j Job) claims(audience, jti string, now time.Time) map[string]any {
	owner, _, _ := strings.Cut(j.Repository, "/")
	kind := "branch"
	if strings.HasPrefix(j.Ref, "refs/tags/") {
		kind = "tag"
	}
	workflowRef := j.Repository + "/.github/workflows/" + j.Workflow + "@" + j.Ref
	claims := map[string]any{
		"iss": githubIssuer, "aud": audience, "sub": j.Subject(), "jti": jti,
		"iat": now.Unix(), "exp": now.Add(tokenLife).Unix(), "nbf": now.Add(-10 * time.Minute).Unix(),
		"ref": j.Ref, "ref_type": kind, "ref_protected": "true", "sha": j.SHA,
		"head_ref": "", "base_ref": "", "event_name": j.Event,
		"repository": j.Repository, "repository_id": j.RepositoryID, "repository_visibility": "private",
		"repository_owner": owner, "repository_owner_id": j.OwnerID,
		"run_id": j.RunID, "run_number": "12", "run_attempt": j.RunAttempt,
		"actor": j.Actor, "actor_id": "583231", "workflow": j.Workflow,
		"workflow_ref": workflowRef, "workflow_sha": j.SHA,
		"job_workflow_ref": workflowRef, "job_workflow_sha": j.SHA,
		"runner_environment": "github-hosted", "check_run_id": "31415",
	}
	if j.Environment != "" {
		claims["environment"] = j.Environment
	}
	for name, value := range j.Claims {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
	return claims
}

// IDTokenRequest gives what a runner puts into ACTIONS_ID_TOKEN_REQUEST_URL
// and ACTIONS_ID_TOKEN_REQUEST_TOKEN. base is where the cloud is reached
// (http://127.0.0.1:4000); empty means a name of GitHub's, for RoundTripper.
func (c *Cloud) IDTokenRequest(base string) (url, token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	base = cmp.Or(base, "https://run-actions-1-azure-eastus.actions.githubusercontent.com")
	return strings.TrimSuffix(base, "/") + idTokenPath + c.opts.Job.RunID + "?api-version=2.0", c.requestToken()
}

// SetJob replaces the job that ID tokens speak of.
func (c *Cloud) SetJob(j Job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opts.Job = j.withDefaults()
}

func (c *Cloud) requestToken() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "id token request %d", c.opts.Seed))
	return "ghs_" + hex.EncodeToString(sum[:])
}

func (c *Cloud) serveIDToken(w http.ResponseWriter, r *http.Request) {
	call := &Call{Service: "oidc", Action: r.Method + " token", Time: time.Now()}
	c.exchange(w, r, call, writePlainError, func(w http.ResponseWriter, f *Fault) error {
		if err := f.plainRefusal(); err != nil {
			return err
		}
		if r.Method != http.MethodGet {
			return &Error{Code: "MethodNotAllowed", Message: "The requested resource does not support http method '" + r.Method + "'.", Status: http.StatusMethodNotAllowed}
		}
		if r.Header.Get("Authorization") != "Bearer "+c.requestToken() {
			return &Error{Code: "Unauthorized", Message: "The user is not authorized to access this resource.", Status: http.StatusUnauthorized}
		}
		if r.URL.Query().Get("api-version") == "" {
			return &Error{Code: "VssVersionNotSpecifiedException", Message: "No api-version was supplied for the \"GET\" request.", Status: http.StatusBadRequest}
		}
		key, err := c.signer()
		if err != nil {
			return err
		}
		c.mu.Lock()
		job, jti := c.opts.Job, uuid(c.unique("jti"))
		c.mu.Unlock()
		owner, _, _ := strings.Cut(job.Repository, "/")
		audience := cmp.Or(r.URL.Query().Get("audience"), "https://github.com/"+owner)
		token, err := signToken(key, job.claims(audience, jti, c.now()))
		if err != nil {
			return err
		}
		body, err := json.Marshal(map[string]any{"count": len(token), "value": token})
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8; api-version=2.0")
		return write(w, http.StatusOK, body)
	})
}

// plainRefusal is what the token service answers under the fault, or nil.
func (f *Fault) plainRefusal() error {
	if f == nil {
		return nil
	}
	if f.Error != nil {
		return f.Error
	}
	switch f.Kind {
	case Throttle:
		return &Error{Code: "TooManyRequests", Message: "Too Many Requests", Status: http.StatusTooManyRequests}
	case Unavailable:
		return &Error{Code: "ServiceUnavailable", Message: "Service Unavailable", Status: http.StatusServiceUnavailable}
	case Internal:
		return &Error{Code: "InternalServerError", Message: "Internal Server Error", Status: http.StatusInternalServerError}
	case Denied, Expired:
		return &Error{Code: "Unauthorized", Message: "The user is not authorized to access this resource.", Status: http.StatusUnauthorized}
	default:
		return nil
	}
}

func writePlainError(w http.ResponseWriter, e *Error, requestID string) error {
	body, err := json.Marshal(map[string]string{"typeKey": e.Code, "message": e.Message})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Github-Request-Id", requestID)
	return write(w, e.Status, body)
}

// serveDiscovery publishes the issuer's configuration and keys.
func (c *Cloud) serveDiscovery(w http.ResponseWriter, r *http.Request) {
	call := &Call{Service: "oidc", Action: r.Method + " keys", Time: time.Now()}
	c.exchange(w, r, call, writePlainError, func(w http.ResponseWriter, f *Fault) error {
		if err := f.plainRefusal(); err != nil {
			return err
		}
		var doc any
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			doc = map[string]any{
				"issuer": githubIssuer, "jwks_uri": githubIssuer + "/.well-known/jwks",
				"subject_types_supported":               []string{"public", "pairwise"},
				"response_types_supported":              []string{"id_token"},
				"id_token_signing_alg_values_supported": []string{"RS256"},
				"scopes_supported":                      []string{"openid"},
			}
		case "/.well-known/jwks":
			key, err := c.signer()
			if err != nil {
				return err
			}
			doc = map[string]any{"keys": []any{map[string]any{
				"kty": "RSA", "alg": "RS256", "use": "sig", "kid": keyID(key),
				"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
				"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
			}}}
		default:
			return &Error{Code: "NotFound", Message: "Not Found", Status: http.StatusNotFound}
		}
		body, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		return write(w, http.StatusOK, body)
	})
}

func (o Options) signingKey() (*rsa.PrivateKey, error) {
	if o.Key != nil {
		return o.Key, nil
	}
	return rsa.GenerateKey(rand.Reader, 2048)
}

func keyID(key *rsa.PrivateKey) string {
	sum := sha256.Sum256(key.N.Bytes())
	return strings.ToUpper(hex.EncodeToString(sum[:20]))
}

// signToken makes an RS256 JSON Web Token (RFC 7515).
func signToken(key *rsa.PrivateKey, claims map[string]any) (string, error) {
	head, err := json.Marshal(map[string]string{"alg": "RS256", "typ": "JWT", "kid": keyID(key), "x5t": keyID(key)})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(maps.Clone(claims))
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", err
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}

var errBadToken = errors.New("bad token")

// parseToken takes a token apart without trusting it.
func parseToken(token string) (head, claims map[string]any, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, nil, errBadToken
	}
	for i, into := range []*map[string]any{&head, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return nil, nil, errBadToken
		}
		if json.Unmarshal(raw, into) != nil {
			return nil, nil, errBadToken
		}
	}
	return head, claims, nil
}

// verifySignature checks a token's signature against the issuer's key.
func verifySignature(key *rsa.PublicKey, token string) error {
	cut := strings.LastIndex(token, ".")
	sig, err := base64.RawURLEncoding.DecodeString(token[cut+1:])
	if err != nil {
		return errBadToken
	}
	sum := sha256.Sum256([]byte(token[:cut]))
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig)
}
