package emulator

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// Call is one request that the cloud answered.
type Call struct {
	// Service is oidc, sts, iam, ecr, ecr-public, registry, ecs, logs, secretsmanager or ssm.
	Service string
	// Action is the API's action (UpdateService), or the method and kind of
	// object for the registry (PATCH upload, PUT manifest, MOUNT blob; PATCH no
	// upload, PUT no upload and PUT no manifest for what cannot be there) and for
	// OIDC (GET token).
	Action string
	// Method and Path are the request line's.
	Method, Path string
	// Host is where the request went.
	Host string
	// AccessKey signed the request; for the registry, the key that got the
	// password. Empty when nothing did.
	AccessKey string
	// Principal is the ARN behind AccessKey.
	Principal string
	// Request is the body of an API call. Nil for the registry.
	Request []byte
	// Bytes counts what an upload carried.
	Bytes int64
	// Status is the answer's HTTP status; 0 when the connection was broken.
	Status int
	// ErrorCode is the error that was answered, or empty.
	ErrorCode string
	// Time is when the request came.
	Time time.Time
}

// Calls lists every request so far, oldest first.
func (c *Cloud) Calls() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// Called lists the requests so far with that service and action, both empty
// for any: c.Called("ecs", "UpdateService").
func (c *Cloud) Called(service, action string) []Call {
	return slices.DeleteFunc(c.Calls(), func(call Call) bool {
		return (service != "" && call.Service != service) || (action != "" && call.Action != action)
	})
}

// Uploaded counts the blobs that were uploaded and the bytes that were sent for
// them, those of failed tries too; mounted blobs and manifests are not among them.
func (c *Cloud) Uploaded() (uploads int, bytes int64) {
	for _, call := range c.Called("registry", "") {
		switch call.Action {
		case "PUT upload":
			bytes += call.Bytes
			if call.Status == http.StatusCreated {
				uploads++
			}
		case "PATCH upload":
			bytes += call.Bytes
		}
	}
	return uploads, bytes
}

func (c *Cloud) record(call *Call, r *http.Request) {
	call.Method, call.Path, call.Host = r.Method, r.URL.Path, r.Host
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, *call)
}

// FaultKind says what goes wrong.
type FaultKind string

// The faults. Each service answers them in its own protocol.
const (
	// Throttle answers "Rate exceeded".
	Throttle FaultKind = "throttle"
	// Unavailable answers 503.
	Unavailable FaultKind = "unavailable"
	// Internal answers 500.
	Internal FaultKind = "internal"
	// Denied answers that the caller is not authorized.
	Denied FaultKind = "denied"
	// Expired answers that the caller's session or password has expired.
	Expired FaultKind = "expired"
	// Reset breaks the connection instead of carrying the request out.
	Reset FaultKind = "reset"
	// Lost carries the request out and breaks the connection instead of answering.
	Lost FaultKind = "lost"
	// CutRequest reads Bytes of the request's body and breaks the connection:
	// a truncated upload.
	CutRequest FaultKind = "cut-request"
	// CutAnswer sends Bytes of the answer's body and breaks the connection.
	CutAnswer FaultKind = "cut-answer"
)

// Fault makes requests fail.
type Fault struct {
	// Service is as in Call; empty means any.
	Service string
	// Action is as in Call, or METHOD /path; * stands for anything. Empty means any.
	Action string
	// Skip lets so many matching requests pass first.
	Skip int
	// Times is how many requests fail. Default: 1; below 0: all.
	Times int
	// Kind says how. Default: Internal.
	Kind FaultKind
	// Error, when set, is answered instead of what Kind says.
	Error *Error
	// Bytes is where CutRequest and CutAnswer cut.
	Bytes int64
}

type fault struct{ Fault }

// Fail arms a fault. Faults armed first are used up first.
func (c *Cloud) Fail(f Fault) {
	if f.Times == 0 {
		f.Times = 1
	}
	if f.Kind == "" {
		f.Kind = Internal
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, &fault{f})
}

// fault takes the fault that concerns a request, or nil.
func (c *Cloud) fault(service, action string, r *http.Request) *Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, f := range c.faults {
		if f.Service != "" && f.Service != service {
			continue
		}
		if f.Action != "" && !like(f.Action, action) && !like(f.Action, r.Method+" "+r.URL.Path) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		taken := f.Fault
		if f.Times--; f.Times == 0 {
			c.faults = slices.Delete(c.faults, i, i+1)
		}
		return &taken
	}
	return nil
}

// like matches a pattern in which * stands for any run of characters and ? for one.
func like(pattern, s string) bool {
	for pattern != "" {
		switch pattern[0] {
		case '*':
			rest := strings.TrimLeft(pattern, "*")
			for i := range len(s) + 1 {
				if like(rest, s[i:]) {
					return true
				}
			}
			return false
		case '?':
			if s == "" {
				return false
			}
		default:
			if s == "" || s[0] != pattern[0] {
				return false
			}
		}
		pattern, s = pattern[1:], s[1:]
	}
	return s == ""
}
