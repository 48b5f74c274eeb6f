package registry

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/towline/towline/internal/problem"
)

// try runs op until it succeeds, fails for good, or has failed five times:
// about 1, 2, 4 and 8 seconds apart, or as far as the registry asked for.
func try(ctx context.Context, op func(context.Context) error) error { return tryFor(ctx, 5, op) }

// tryFor is try with another number of tries.
func tryFor(ctx context.Context, tries int, op func(context.Context) error) error {
	for n := 1; ; n++ {
		watched, seen := withSight(ctx)
		err := op(watched)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if n == tries || !isTransient(err) {
			return err
		}
		pause := time.Second << (n - 1)
		pause = pause/2 + rand.N(pause) //nolint:gosec // jitter
		seen.mu.Lock()
		pause = max(pause, min(seen.retryAfter, time.Minute))
		seen.mu.Unlock()
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// isTransient says whether the same request may succeed a moment later.
func isTransient(err error) bool {
	// Limits of a context of ours are seen before; net/http's own are called
	// context.DeadlineExceeded too, and are worth another try.
	if _, known := errors.AsType[*problem.Error](err); known || errors.Is(err, context.Canceled) {
		return false
	}
	if answer, ok := errors.AsType[*transport.Error](err); ok {
		return isTransientAnswer(answer)
	}
	for _, each := range []error{
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
		syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED, syscall.ETIMEDOUT,
	} {
		if errors.Is(err, each) {
			return true
		}
	}
	var network net.Error
	if errors.As(err, &network) && network.Timeout() {
		return true
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsTemporary
	}
	text := err.Error()
	return strings.Contains(text, "http2:") || strings.Contains(text, "stream error:") ||
		// A download that ended early, or was damaged on its way.
		strings.Contains(text, "error verifying")
}

func isTransientAnswer(answer *transport.Error) bool {
	switch answer.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, 499,
		http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout, 522:
		return true
	case http.StatusUnauthorized, http.StatusForbidden:
		return false
	}
	// An upload that the registry has lost is begun anew.
	for _, d := range answer.Errors {
		switch d.Code {
		case transport.BlobUploadInvalidErrorCode, transport.BlobUploadUnknownErrorCode,
			transport.TooManyRequestsErrorCode, transport.UnavailableErrorCode:
			return true
		}
	}
	return false
}
