package emulator

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
)

// RoundTripper answers requests to any host in the calling goroutine and opens
// no socket: for clients inside testing/synctest.
func (c *Cloud) RoundTripper() http.RoundTripper { return roundTripper{cloud: c} }

type roundTripper struct{ cloud *Cloud }

// RoundTrip implements http.RoundTripper.
func (t roundTripper) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	ctx := req.Context()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	in := req.Clone(ctx)
	if in.Host == "" {
		in.Host = in.URL.Host
	}
	in.URL.Scheme, in.URL.Host = "", ""
	in.RequestURI = in.URL.RequestURI()
	in.RemoteAddr = "192.0.2.1:443"
	if in.Body == nil {
		in.Body = http.NoBody
	}
	defer func() { err = errors.Join(err, in.Body.Close()) }()

	rec := &recorder{header: http.Header{}}
	if aborted := serveAbortable(t.cloud, rec, in); aborted && rec.body.Len() == 0 {
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	} else if aborted {
		rec.cut = true
	}
	return rec.response(req), ctx.Err()
}

// serveAbortable reports whether the handler broke the connection.
func serveAbortable(h http.Handler, w http.ResponseWriter, r *http.Request) (aborted bool) {
	defer func() {
		if p := recover(); p == http.ErrAbortHandler { //nolint:errorlint // a panic's value, not an error chain
			aborted = true
		} else if p != nil {
			panic(p)
		}
	}()
	h.ServeHTTP(w, r)
	return false
}

// recorder collects an answer.
type recorder struct {
	header http.Header
	sent   http.Header
	status int
	body   bytes.Buffer
	cut    bool
}

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status, r.sent = status, r.header.Clone()
	}
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}

func (r *recorder) response(req *http.Request) *http.Response {
	r.WriteHeader(http.StatusOK)
	resp := &http.Response{
		Status: strconv.Itoa(r.status) + " " + http.StatusText(r.status), StatusCode: r.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: r.sent, Request: req, ContentLength: int64(r.body.Len()),
	}
	if n, err := strconv.ParseInt(r.sent.Get("Content-Length"), 10, 64); err == nil {
		resp.ContentLength = n
	}
	var body io.Reader = bytes.NewReader(r.body.Bytes())
	if r.cut {
		body = io.MultiReader(body, failingReader{io.ErrUnexpectedEOF})
	}
	if req.Method == http.MethodHead {
		body = http.NoBody
	}
	resp.Body = io.NopCloser(body)
	return resp
}

type failingReader struct{ err error }

// Read implements io.Reader.
func (f failingReader) Read([]byte) (int, error) { return 0, f.err }
