package emulator

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Error is a service's refusal, in its own words.
type Error struct {
	// Code is the error's type: ClusterNotFoundException.
	Code string
	// Message is its text.
	Message string
	// Status is the HTTP status. Default: 400.
	Status int
}

// Error gives code and text as the SDK prints them.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

func refuse(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

const maxBody = 4 << 20

// api is one service that speaks AWS JSON 1.1.
type api struct {
	service    string
	operations map[string]operation
}

// operation is one action of an API.
type operation struct {
	// resource names what the caller needs the action's permission on, from
	// the request; policy_actions.go knows those with more than one. Nil means "*".
	resource func(*request) string
	// serve answers with c.mu held.
	serve func(*request) (any, error)
}

// request is one authenticated API call.
type request struct {
	who     *principal
	service string
	action  string
	host    string
	body    []byte
	now     time.Time
}

// into decodes the request's body.
func (q *request) into(v any) error {
	if err := json.Unmarshal(q.body, v); err != nil {
		return refuse("SerializationException", "%v", err)
	}
	return nil
}

// member reads one string member of the request, or "".
func (q *request) member(name string) string {
	var members map[string]any
	if json.Unmarshal(q.body, &members) != nil {
		return ""
	}
	s, _ := members[name].(string)
	return s
}

func (c *Cloud) serveJSON(w http.ResponseWriter, r *http.Request) {
	prefix, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	api, known := c.apis[prefix]
	call := &Call{Service: api.service, Action: action, Time: time.Now()}
	if !known {
		call.Service = prefix
	}
	c.exchange(w, r, call, writeJSONError, func(w http.ResponseWriter, f *Fault) error {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
		if err != nil {
			return refuse("SerializationException", "%v", err)
		}
		call.Request = body
		op, exists := api.operations[action]
		if !exists {
			return refuse("UnknownOperationException", "")
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		who, err := c.authenticate(r, body, api.service)
		if err != nil {
			return asJSONAuthError(err)
		}
		call.AccessKey, call.Principal = who.accessKey, who.arn
		q := &request{who: who, service: api.service, action: action, host: r.Host, body: body, now: call.Time}
		if err = f.refusal(q, api.service); err != nil {
			return err
		}
		if err = c.authorize(q, api.service, op); err != nil {
			return err
		}
		if api.service == "ecs" && c.opts.Busy > 0 && c.dice.Float64() > 1/(1+c.opts.Busy) {
			return refuse("ThrottlingException", "Rate exceeded")
		}
		if api.service == "ecs" && c.crowded(action, q.now) {
			return refuse("ThrottlingException", "Rate exceeded")
		}
		out, err := op.serve(q)
		if err != nil {
			return err
		}
		return writeJSON(w, out)
	})
}

func writeJSON(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	return write(w, http.StatusOK, body)
}

func write(w http.ResponseWriter, status int, body []byte) error {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, err := w.Write(body)
	return err
}

func writeJSONError(w http.ResponseWriter, e *Error, _ string) error {
	body, err := json.Marshal(map[string]string{"__type": e.Code, "message": e.Message})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	return write(w, e.Status, body)
}

func writeQueryError(w http.ResponseWriter, e *Error, requestID string) error {
	type detail struct {
		Type, Code, Message string
	}
	body, err := xml.Marshal(struct {
		XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
		Error     detail
		RequestID string `xml:"RequestId"`
	}{Error: detail{"Sender", e.Code, e.Message}, RequestID: requestID})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/xml")
	return write(w, e.Status, body)
}

// exchange answers one request under the fault that concerns it, and records
// the call. Errors that serve returns are written by fail.
func (c *Cloud) exchange(w http.ResponseWriter, r *http.Request, call *Call,
	fail func(http.ResponseWriter, *Error, string) error,
	serve func(http.ResponseWriter, *Fault) error,
) {
	f := c.fault(call.Service, call.Action, r)
	c.mu.Lock()
	requestID := uuid(c.unique("request"))
	c.mu.Unlock()
	answer := func(w http.ResponseWriter) {
		seen := &statusWriter{ResponseWriter: w}
		w.Header().Set("Date", c.now().UTC().Format(http.TimeFormat))
		if call.Service != "registry" && call.Service != "oidc" {
			w.Header().Set("X-Amzn-Requestid", requestID)
		}
		if err := serve(seen, f); err != nil && seen.status == 0 {
			var refusal *Error
			if !errors.As(err, &refusal) {
				refusal = &Error{Code: "InternalFailure", Message: err.Error(), Status: http.StatusInternalServerError}
			}
			refused := *refusal
			if refused.Status == 0 {
				refused.Status = http.StatusBadRequest
			}
			call.ErrorCode = refused.Code
			if fail(seen, &refused, requestID) != nil {
				panic(http.ErrAbortHandler)
			}
		}
		call.Status = seen.status
	}
	defer func() { c.record(call, r) }()
	if f == nil {
		answer(w)
		return
	}
	f.play(w, r, call, answer)
}

// play breaks the connection where the fault says so.
func (f *Fault) play(w http.ResponseWriter, r *http.Request, call *Call, answer func(http.ResponseWriter)) {
	switch f.Kind {
	case Reset:
		panic(http.ErrAbortHandler)
	case CutRequest:
		call.Bytes, _ = io.CopyN(io.Discard, r.Body, f.Bytes)
		panic(http.ErrAbortHandler)
	case Lost:
		answer(&recorder{header: http.Header{}})
		call.Status = 0
		panic(http.ErrAbortHandler)
	case CutAnswer:
		rec := &recorder{header: w.Header()}
		answer(rec)
		call.Status = 0
		w.WriteHeader(rec.status)
		body := rec.body.Bytes()
		if _, err := w.Write(body[:min(int(f.Bytes), len(body))]); err == nil {
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	default:
		answer(w)
	}
}

// refusal is what an API or the registry answers under the fault, or nil.
func (f *Fault) refusal(q *request, service string) error {
	if f == nil {
		return nil
	}
	if f.Error != nil {
		return f.Error
	}
	query, registry := service == "sts" || service == "iam" || service == "elasticloadbalancing", service == "registry"
	pick := func(json, xml, oci string, status int, text string) error {
		code := json
		switch {
		case query:
			code = xml
		case registry:
			code = oci
		}
		return &Error{Code: code, Message: text, Status: status}
	}
	refusedStatus := http.StatusBadRequest
	if query || registry {
		refusedStatus = http.StatusForbidden
	}
	switch f.Kind {
	case Throttle:
		status := http.StatusBadRequest
		if registry {
			status = http.StatusTooManyRequests
		}
		return pick("ThrottlingException", "Throttling", "TOOMANYREQUESTS", status, "Rate exceeded")
	case Unavailable:
		return pick("ServiceUnavailableException", "ServiceUnavailable", "UNAVAILABLE", http.StatusServiceUnavailable, "Service Unavailable")
	case Internal:
		return pick("ServerException", "InternalFailure", "UNKNOWN", http.StatusInternalServerError, "Service Unavailable. Please try again later.")
	case Denied:
		return deniedAs(q.who, service, q.action)
	case Expired:
		text := "The security token included in the request is expired"
		if registry {
			text = expiredPassword
		}
		return pick("ExpiredTokenException", "ExpiredToken", "DENIED", refusedStatus, text)
	default:
		return nil
	}
}

// statusWriter remembers the status that was sent.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (s *statusWriter) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (s *statusWriter) Write(p []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	return s.ResponseWriter.Write(p)
}

// Unwrap lets a http.ResponseController through.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
