package awsauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain keeps the SDK from the settings of whoever runs the tests.
func TestMain(m *testing.M) {
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION",
		"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
		"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_CA_BUNDLE", "AWS_EC2_METADATA_DISABLED",
	} {
		_ = os.Unsetenv(name)
	}
	_ = os.Setenv("AWS_CONFIG_FILE", os.DevNull)
	_ = os.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	m.Run()
}

// fakeSTS is STS, and GitHub's provider of ID tokens, and remembers both.
type fakeSTS struct {
	mu sync.Mutex
	// refusals are answered, in turn, instead of giving credentials; the last
	// one again and again if forever is set.
	refusals []refusal
	forever  bool
	// refuseOnly refuses this action alone. Empty: both that assume roles.
	refuseOnly string
	// caller answers GetCallerIdentity; with a ! before it, it is an error's code.
	caller string

	minted   int      // ID tokens
	presents []string // ID tokens that were presented
	requests []request
	masked   []string
	notices  []string
	sessions int
	// ahead is how much its clock is ahead of ours.
	ahead time.Duration
}

type refusal struct {
	Status        int
	Code, Message string
}

type request struct {
	action, host, key string
	form              url.Values
}

const (
	secretKey  = "SECRETaccessKEY/of+session"
	tokenOfSTS = "session-TOKEN-of-sts"
)

// idToken mints a token with the claims of a deployment from main.
func (f *fakeSTS) idToken(_ context.Context, audience string) (string, error) {
	return f.mint(map[string]any{
		"iss": "https://token.actions.githubusercontent.com", "aud": audience,
		"sub": "repo:acme/shop:environment:production", "environment": "production",
		"ref": "refs/heads/main", "job_workflow_ref": "acme/shop/.github/workflows/deploy.yml@refs/heads/main",
	})
}

func (f *fakeSTS) mint(claims map[string]any) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.minted++
	claims["jti"], claims["exp"] = f.minted, time.Now().Add(5*time.Minute).Unix()
	if until, set := claims["until"]; set {
		claims["exp"] = until
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	return "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString(payload) + ".signature", nil
}

func (f *fakeSTS) mask(secret string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.masked = append(f.masked, secret)
}

func (f *fakeSTS) notice(line string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notices = append(f.notices, line)
}

// RoundTrip answers in the calling goroutine and opens no socket, so that
// waits under testing/synctest run on virtual time.
func (f *fakeSTS) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(req.URL.Host, "sts.") && !strings.HasSuffix(req.URL.Host, ".test") {
		return nil, fmt.Errorf("no route to %s", req.URL.Host)
	}
	rec := httptest.NewRecorder()
	f.serve(rec, req)
	return rec.Result(), nil
}

func (f *fakeSTS) serve(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Date", time.Now().Add(f.ahead).UTC().Format(http.TimeFormat))
	if err := req.ParseForm(); err != nil {
		f.refuse(w, refusal{http.StatusBadRequest, "ValidationError", err.Error()})
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, key, _ := strings.Cut(req.Header.Get("Authorization"), "Credential=")
	key, _, _ = strings.Cut(key, "/")
	f.requests = append(f.requests, request{req.Form.Get("Action"), req.URL.Host, key, req.Form})
	switch action := req.Form.Get("Action"); action {
	case "GetCallerIdentity":
		if len(f.refusals) > 0 && f.refuseOnly == action {
			f.refuse(w, f.refusals[0])
			return
		}
		f.identity(w)
	case "AssumeRoleWithWebIdentity", "AssumeRole":
		if len(f.refusals) > 0 && (f.refuseOnly == "" || f.refuseOnly == action) {
			r := f.refusals[0]
			if len(f.refusals) > 1 || !f.forever {
				f.refusals = f.refusals[1:]
			}
			f.refuse(w, r)
			return
		}
		if action == "AssumeRoleWithWebIdentity" && !f.fresh(req.Form.Get("WebIdentityToken")) {
			f.refuse(w, refusal{http.StatusBadRequest, "ExpiredTokenException", "Token expired or seen before"})
			return
		}
		f.session(w, action, req.Form)
	}
}

// fresh wants every token to be presented once, and in time.
func (f *fakeSTS) fresh(token string) bool {
	if slices.Contains(f.presents, token) {
		return false
	}
	f.presents = append(f.presents, token)
	var payload struct{ Exp int64 }
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	return err == nil && json.Unmarshal(raw, &payload) == nil && time.Now().Unix() < payload.Exp
}

func (f *fakeSTS) session(w http.ResponseWriter, action string, form url.Values) {
	f.sessions++
	var seconds int
	_, _ = fmt.Sscan(form.Get("DurationSeconds"), &seconds)
	ends := time.Now().Add(f.ahead).Add(time.Duration(seconds) * time.Second).UTC().Format(time.RFC3339)
	_, _ = fmt.Fprintf(w, `<%sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%sResult><Credentials>`+
		`<AccessKeyId>ASIA%d</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration>`+
		`</Credentials><AssumedRoleUser><Arn>%s</Arn><AssumedRoleId>X</AssumedRoleId></AssumedRoleUser></%sResult></%sResponse>`,
		action, action, f.sessions, secretKey, tokenOfSTS, ends, assumedARN(form.Get("RoleArn"), form.Get("RoleSessionName")), action, action)
}

// assumedARN is the ARN of a role's session, in which its path is missing.
func assumedARN(role, session string) string {
	name := role[strings.LastIndexByte(role, '/')+1:]
	prefix, _, _ := strings.Cut(role, ":role/")
	return strings.Replace(prefix, ":iam:", ":sts:", 1) + ":assumed-role/" + name + "/" + session
}

func (f *fakeSTS) identity(w http.ResponseWriter) {
	if code, refused := strings.CutPrefix(f.caller, "!"); refused {
		f.refuse(w, refusal{http.StatusForbidden, code, "The security token included in the request is invalid."})
		return
	}
	_, _ = fmt.Fprintf(w, `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>%s</Arn><UserId>X</UserId><Account>%s</Account>`+
		`</GetCallerIdentityResult></GetCallerIdentityResponse>`, f.caller, strings.Split(f.caller, ":")[4])
}

func (f *fakeSTS) refuse(w http.ResponseWriter, r refusal) {
	w.Header().Set("X-Amzn-Requestid", "11-22")
	w.WriteHeader(r.Status)
	if r.Code != "" {
		_, _ = fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>11-22</RequestId></ErrorResponse>`,
			r.Code, r.Message)
	}
}

// newFake gives a fake and options for a role by ID token.
func newFake() (*fakeSTS, Options) {
	f := &fakeSTS{caller: "arn:aws:sts::111122223333:assumed-role/deploy/towline-1-1"}
	return f, Options{
		Region: "eu-west-1", Roles: []string{"arn:aws:iam::111122223333:role/deploy"}, SessionName: "towline-1-1",
		IDToken: f.idToken, Mask: f.mask, Notice: f.notice, Transport: f,
	}
}

func (f *fakeSTS) hosts() []string {
	var hosts []string
	for _, r := range f.requests {
		hosts = append(hosts, r.host)
	}
	return hosts
}
