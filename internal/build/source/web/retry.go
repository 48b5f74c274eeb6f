package web

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Retry is a transport that tries again where a server or the network had a bad
// moment: 408, 429, 5xx, and connections that could not be made or were lost. A
// request with a body is repeated only if it can be read again.
type Retry struct {
	// Next carries the requests. Default: http.DefaultTransport.
	Next http.RoundTripper
}

const (
	// tries is how often a request is sent at most.
	tries = 4
	// firstWait doubles with each try.
	firstWait = time.Second
	// maxWait bounds what a server may ask for by Retry-After.
	maxWait = time.Minute
)

// RoundTrip sends the request until it is answered for good.
func (r *Retry) RoundTrip(req *http.Request) (*http.Response, error) {
	next := r.Next
	if next == nil {
		next = http.DefaultTransport //nolint:forbidigo // the default, which knows the proxies
	}
	wait := firstWait
	for try := 1; ; try++ {
		response, err := next.RoundTrip(req)
		if try == tries || !again(req.Context(), response, err) || req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
			return response, err
		}
		pause := wait
		if response != nil {
			pause = max(pause, asked(response))
			_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // so that the connection can be used again
			_ = response.Body.Close()
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-req.Context().Done():
			timer.Stop()
			return nil, context.Cause(req.Context())
		}
		wait *= 2
		if req.GetBody != nil {
			body, bodyErr := req.GetBody()
			if bodyErr != nil {
				return nil, bodyErr
			}
			req = req.Clone(req.Context())
			req.Body = body
		}
	}
}

func again(ctx context.Context, response *http.Response, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	if err == nil {
		code := response.StatusCode
		return code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code >= 500 && code != http.StatusNotImplemented
	}
	var certificate *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var header tls.RecordHeaderError
	var name *net.DNSError
	switch {
	case errors.As(err, &certificate), errors.As(err, &unknown), errors.As(err, &header):
		return false
	case errors.As(err, &name):
		return !name.IsNotFound
	}
	return true
}

// asked is how long the server wants to be left alone.
func asked(response *http.Response) time.Duration {
	value := response.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil && seconds > 0 {
		return min(time.Duration(seconds)*time.Second, maxWait)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(time.Until(at), maxWait)
	}
	return 0
}
