package emulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The refusals of a signature, under the names that the query protocol has;
// asJSONAuthError renames them.
const (
	errMissingToken   = "MissingAuthenticationToken"
	errIncomplete     = "IncompleteSignature"
	errInvalidKey     = "InvalidClientTokenId"
	errSignature      = "SignatureDoesNotMatch"
	errExpiredSession = "ExpiredToken"

	timeFormat = "20060102T150405Z"
	// clockSkew is how far a signature's time may be from ours.
	clockSkew = 5 * time.Minute
)

// authenticate recomputes the request's signature (Signature Version 4) with
// the secret of the key that it names. c.mu is held.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
func (c *Cloud) authenticate(r *http.Request, body []byte, service string) (*principal, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return nil, &Error{Code: errMissingToken, Message: "Request is missing Authentication Token", Status: http.StatusForbidden}
	}
	sig, err := parseAuthorization(header)
	if err != nil {
		return nil, err
	}
	stamp := r.Header.Get("X-Amz-Date")
	signedAt, err := time.Parse(timeFormat, stamp)
	if err != nil {
		return nil, refuse(errIncomplete, "Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", stamp)
	}
	who, known := c.keys[sig.accessKey]
	if !known {
		return nil, &Error{Code: errInvalidKey, Message: "The security token included in the request is invalid.", Status: http.StatusForbidden}
	}
	if !hmac.Equal([]byte(r.Header.Get("X-Amz-Security-Token")), []byte(who.token)) {
		return nil, &Error{Code: errInvalidKey, Message: "The security token included in the request is invalid.", Status: http.StatusForbidden}
	}
	region := c.signedRegion(r.Host, service)
	if service == "iam" && sig.region == iamRegion {
		region = iamRegion
	}
	if err := sig.checkScope(region, service, stamp); err != nil {
		return nil, err
	}
	if now := c.now(); signedAt.Before(now.Add(-clockSkew)) {
		return nil, mismatch("Signature expired: %s is now earlier than %s (%s - 5 min.)",
			stamp, now.Add(-clockSkew).UTC().Format(timeFormat), now.UTC().Format(timeFormat))
	} else if signedAt.After(now.Add(clockSkew)) {
		return nil, mismatch("Signature not yet current: %s is still later than %s (%s + 5 min.)",
			stamp, now.Add(clockSkew).UTC().Format(timeFormat), now.UTC().Format(timeFormat))
	}
	want := sig.sign(who.secret, stamp, canonical(r, body, sig.headers))
	if !hmac.Equal([]byte(want), []byte(sig.signature)) {
		return nil, mismatch("The request signature we calculated does not match the signature you provided. " +
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	if !who.expires.IsZero() && !c.now().Before(who.expires) {
		return nil, &Error{Code: errExpiredSession, Message: "The security token included in the request is expired", Status: http.StatusForbidden}
	}
	return who, nil
}

func mismatch(format string, args ...any) *Error {
	return &Error{Code: errSignature, Message: fmt.Sprintf(format, args...), Status: http.StatusForbidden}
}

// signature is an Authorization header taken apart.
type signature struct {
	accessKey, date, region, service, terminator string

	headers   []string
	signature string
}

func parseAuthorization(header string) (*signature, error) {
	rest, ok := strings.CutPrefix(header, "AWS4-HMAC-SHA256 ")
	if !ok {
		return nil, refuse(errIncomplete, "Unsupported AWS 'algorithm': '%s'.", strings.Fields(header)[0])
	}
	parts := map[string]string{}
	for field := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(field), "=")
		parts[k] = v
	}
	for _, name := range []string{"Credential", "Signature", "SignedHeaders"} {
		if parts[name] == "" {
			return nil, refuse(errIncomplete, "Authorization header requires '%s' parameter. Authorization=%s", name, header)
		}
	}
	scope := strings.Split(parts["Credential"], "/")
	if len(scope) != 5 {
		return nil, refuse(errIncomplete, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", parts["Credential"])
	}
	return &signature{
		accessKey: scope[0], date: scope[1], region: scope[2], service: scope[3], terminator: scope[4],
		headers: strings.Split(parts["SignedHeaders"], ";"), signature: parts["Signature"],
	}, nil
}

func (s *signature) checkScope(region, service, stamp string) error {
	switch {
	case s.region != region:
		return mismatch("Credential should be scoped to a valid region. ")
	case s.service != service:
		return mismatch("Credential should be scoped to correct service: '%s'. ", service)
	case s.terminator != "aws4_request":
		return mismatch("Credential should be scoped with a valid terminator: 'aws4_request'. ")
	case !strings.HasPrefix(stamp, s.date+"T"):
		return mismatch("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.",
			s.date, stamp[:8], stamp)
	case !slices.Contains(s.headers, "host"):
		return mismatch("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	case !slices.Contains(s.headers, "x-amz-date"):
		return mismatch("'X-Amz-Date' must be a 'SignedHeader' in the AWS Authorization.")
	}
	return nil
}

func (s *signature) sign(secret, stamp, canonicalRequest string) string {
	hash := sha256.Sum256([]byte(canonicalRequest))
	scope := strings.Join([]string{s.date, s.region, s.service, s.terminator}, "/")
	text := strings.Join([]string{"AWS4-HMAC-SHA256", stamp, scope, hex.EncodeToString(hash[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{s.date, s.region, s.service, s.terminator, text} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}

// canonical writes the request in the one form that is signed.
func canonical(r *http.Request, body []byte, headers []string) string {
	var b strings.Builder
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	// The path is escaped once more on top of the request's own escaping, as
	// for every service but S3.
	fmt.Fprintf(&b, "%s\n%s\n%s\n", r.Method, escapePath(path), canonicalQuery(r.URL.Query()))
	for _, name := range headers {
		var values []string
		switch name {
		case "host":
			values = []string{r.Host}
		case "content-length":
			values = []string{strconv.Itoa(len(body))}
		default:
			values = r.Header.Values(name)
		}
		trimmed := make([]string, len(values))
		for i, v := range values {
			trimmed[i] = strings.Join(strings.Fields(v), " ")
		}
		fmt.Fprintf(&b, "%s:%s\n", name, strings.Join(trimmed, ","))
	}
	sum := sha256.Sum256(body)
	fmt.Fprintf(&b, "\n%s\n%s", strings.Join(headers, ";"), hex.EncodeToString(sum[:]))
	return b.String()
}

func escapePath(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i] = escape(s)
	}
	return strings.Join(segments, "/")
}

func canonicalQuery(q url.Values) string {
	var pairs []string
	for k, values := range q {
		for _, v := range values {
			pairs = append(pairs, escape(k)+"="+escape(v))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// escape percent-encodes everything but RFC 3986's unreserved characters.
func escape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

// asJSONAuthError gives a signature's refusal the name and status that it has
// in the JSON protocols.
func asJSONAuthError(err error) error {
	e, ok := err.(*Error) //nolint:errorlint // authenticate returns it bare
	if !ok {
		return err
	}
	renamed := *e
	renamed.Status = http.StatusBadRequest
	switch e.Code {
	case errMissingToken:
		renamed.Code, renamed.Message = "MissingAuthenticationTokenException", "Missing Authentication Token"
	case errIncomplete:
		renamed.Code = "IncompleteSignatureException"
	case errInvalidKey:
		renamed.Code = "UnrecognizedClientException"
	case errSignature:
		renamed.Code = "InvalidSignatureException"
	case errExpiredSession:
		renamed.Code = "ExpiredTokenException"
	}
	return &renamed
}
