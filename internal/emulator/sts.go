package emulator

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"

// serveQuery answers STS.
func (c *Cloud) serveQuery(w http.ResponseWriter, r *http.Request) {
	c.exchangeQuery(w, r, "sts", "AssumeRoleWithWebIdentity", func(w http.ResponseWriter, q *request, form url.Values) error {
		return c.answerSTS(w, q.action, q.who, form)
	})
}

// exchangeQuery answers a request in AWS's query protocol, whose caller must have
// signed it unless its action is the unsigned one. answer runs with c.mu held.
func (c *Cloud) exchangeQuery(w http.ResponseWriter, r *http.Request, service, unsigned string,
	answer func(http.ResponseWriter, *request, url.Values) error,
) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	form, formErr := url.ParseQuery(string(body))
	call := &Call{Service: service, Action: form.Get("Action"), Request: body, Time: time.Now()}
	c.exchange(w, r, call, writeQueryError, func(w http.ResponseWriter, f *Fault) error {
		if err != nil || formErr != nil {
			return refuse("MalformedQueryString", "Keys may not contain blanks")
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		q := &request{service: service, action: call.Action, now: call.Time}
		if unsigned == "" || call.Action != unsigned {
			if q.who, err = c.authenticate(r, body, service); err != nil {
				return err
			}
			call.AccessKey, call.Principal = q.who.accessKey, q.who.arn
		}
		if err := f.refusal(q, service); err != nil {
			return err
		}
		return answer(w, q, form)
	})
}

func (c *Cloud) answerSTS(w http.ResponseWriter, action string, who *principal, form url.Values) error {
	switch action {
	case "AssumeRoleWithWebIdentity":
		out, err := c.assumeWithToken(form)
		if err != nil {
			return err
		}
		return writeXML(w, action, out)
	case "AssumeRole":
		out, err := c.assumeRole(who, form)
		if err != nil {
			return err
		}
		return writeXML(w, action, out)
	case "GetCallerIdentity":
		return writeXML(w, action, struct {
			Arn     string
			UserID  string `xml:"UserId"`
			Account string
		}{who.arn, who.userID, who.account()})
	default:
		return refuse("InvalidAction", "Could not find operation %s for version 2011-06-15", action)
	}
}

// writeXML answers in STS's namespace.
func writeXML(w http.ResponseWriter, action string, out any) error {
	return writeQueryResult(w, stsNamespace, action, out)
}

// assumed is the result of both ways to assume a role.
type assumed struct {
	Subject  string `xml:"SubjectFromWebIdentityToken,omitempty"`
	Audience string `xml:",omitempty"`
	Provider string `xml:",omitempty"`
	User     struct {
		Arn string
		ID  string `xml:"AssumedRoleId"`
	} `xml:"AssumedRoleUser"`
	Credentials struct {
		AccessKeyID     string `xml:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      string
	}
}

func (c *Cloud) assumeWithToken(form url.Values) (*assumed, error) {
	w, err := c.wish(form)
	if err != nil {
		return nil, err
	}
	claims, err := c.verifyToken(form.Get("WebIdentityToken"))
	if err != nil {
		return nil, err
	}
	notAuthorized := &Error{Code: "AccessDenied", Message: "Not authorized to perform sts:AssumeRoleWithWebIdentity", Status: http.StatusForbidden}
	r, exists := c.roles[form.Get("RoleArn")]
	if !exists {
		return nil, notAuthorized
	}
	host := strings.TrimPrefix(claims["iss"], "https://")
	keys := map[string]string{}
	for _, name := range githubKeys() {
		if value, present := claims[name]; present {
			keys[host+":"+name] = value
		}
	}
	if !r.trust.admits("sts:AssumeRoleWithWebIdentity", "Federated", []string{r.provider(host)}, keys) {
		return nil, notAuthorized
	}
	if w.life > r.MaxSession {
		return nil, refuse("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	out := c.grant(r, w)
	out.Subject, out.Audience = claims["sub"], claims["aud"]
	out.Provider = r.provider(host)
	return out, nil
}

func (c *Cloud) grant(r *role, w *wish) *assumed {
	p := c.session(r, w)
	out := &assumed{}
	out.User.Arn, out.User.ID = p.arn, p.userID
	out.Credentials.AccessKeyID, out.Credentials.SecretAccessKey = p.accessKey, p.secret
	out.Credentials.SessionToken = p.token
	out.Credentials.Expiration = p.expires.UTC().Format(time.RFC3339)
	return out
}

// verifyToken checks an ID token as STS does and gives its string claims.
func (c *Cloud) verifyToken(token string) (map[string]string, error) {
	head, raw, err := parseToken(token)
	if err != nil {
		return nil, refuse("InvalidIdentityToken", "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
	}
	claims := map[string]string{}
	for name, value := range raw {
		if s, ok := value.(string); ok {
			claims[name] = s
		}
	}
	host := strings.TrimPrefix(claims["iss"], "https://")
	provider, known := c.providers[host]
	if !known {
		return nil, refuse("InvalidIdentityToken", "No OpenIDConnect provider found in your account for %s", claims["iss"])
	}
	key, err := c.signer()
	if err != nil {
		return nil, err
	}
	if head["alg"] != "RS256" || head["kid"] != keyID(key) {
		return nil, refuse("InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements")
	}
	if verifySignature(&key.PublicKey, token) != nil {
		return nil, refuse("InvalidIdentityToken", "The web identity token that was passed could not be validated: its signature is invalid")
	}
	now := c.now()
	expiry, _ := raw["exp"].(float64)
	if float64(now.Unix()) >= expiry {
		return nil, refuse("ExpiredTokenException", "Token expired: current date/time %d must be before the expiration date/time %d", now.Unix(), int64(expiry))
	}
	if begins, _ := raw["nbf"].(float64); float64(now.Unix()) < begins { // assumed text
		return nil, refuse("InvalidIdentityToken", "The ID Token provided is not valid before %d", int64(begins))
	}
	if !slices.Contains(provider.Audiences, claims["aud"]) {
		return nil, refuse("InvalidIdentityToken", "Incorrect token audience")
	}
	return claims, nil
}

// checkAssume validates what both ways to assume a role share.
func checkAssume(form url.Values) (time.Duration, error) {
	name, arn := form.Get("RoleSessionName"), form.Get("RoleArn")
	if !regexp.MustCompile(`^[\w+=,.@-]{2,64}$`).MatchString(name) {
		return 0, refuse("ValidationError", "1 validation error detected: Value '%s' at 'roleSessionName' failed to satisfy constraint: "+
			"Member must satisfy regular expression pattern: [\\w+=,.@-]*", name)
	}
	if !regexp.MustCompile(`^arn:aws[a-z-]*:iam::\d{12}:role/.+`).MatchString(arn) {
		return 0, refuse("ValidationError", "%s is invalid", arn)
	}
	seconds := 3600
	if text := form.Get("DurationSeconds"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 900 || n > 43200 {
			bound := "greater than or equal to 900"
			if n > 43200 {
				bound = "less than or equal to 43200"
			}
			return 0, refuse("ValidationError", "1 validation error detected: Value '%s' at 'durationSeconds' failed to satisfy constraint: "+
				"Member must have value %s", text, bound)
		}
		seconds = n
	}
	return time.Duration(seconds) * time.Second, nil
}
