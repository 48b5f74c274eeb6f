// Package web downloads the http and https sources of a build.
//
// Names, modes and times of files are as BuildKit's source/http gives them.
package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/towline/towline/internal/problem"
)

// Source is a file on a server.
type Source struct {
	// URL may hold a password: messages show Name instead.
	URL string
	// Filename is the file's name; empty is what the server or the URL call it.
	Filename string
	// Checksum is the content's digest, or empty.
	Checksum digest.Digest
	// Perm is the file's mode; 0 is 0600. UID and GID own it.
	Perm     os.FileMode
	UID, GID int
	// Header has Accept and User-Agent where the source says them.
	Header http.Header
	// AuthHeaderSecret names the secret with the Authorization header, which has
	// to exist then. Without one, HTTP_AUTH_HEADER_HOST and HTTP_AUTH_TOKEN_HOST
	// are looked for.
	AuthHeaderSecret string
}

// Name is the URL as messages show it, without user, password and query.
func (s Source) Name() string { return clean(s.URL) }

func clean(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		scheme, _, _ := strings.Cut(raw, "://")
		return scheme + "://..."
	}
	u.User, u.RawQuery, u.ForceQuery = nil, "", false
	return u.String()
}

// Parse reads the identifier, which is the URL, and the attributes of a source
// vertex.
func Parse(identifier string, attrs map[string]string) (Source, error) {
	s := Source{URL: identifier, Filename: attrs[pb.AttrHTTPFilename], AuthHeaderSecret: attrs[pb.AttrHTTPAuthHeaderSecret], Header: http.Header{}}
	if u, err := url.Parse(identifier); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return s, &problem.Error{Op: "read " + clean(identifier), Err: errors.New("it is not an http or https URL"), Fix: "Correct the URL."}
	}
	if sum := attrs[pb.AttrHTTPChecksum]; sum != "" {
		parsed, err := digest.Parse(sum)
		if err != nil {
			return s, &problem.Error{
				Op: "read " + s.Name(), Value: sum, Err: fmt.Errorf("the checksum %q: %w", sum, err), Fix: "Write it as sha256: and 64 hexadecimal digits.",
			}
		}
		s.Checksum = parsed
	}
	perm := 0
	for attr, into := range map[string]*int{pb.AttrHTTPPerm: &perm, pb.AttrHTTPUID: &s.UID, pb.AttrHTTPGID: &s.GID} {
		if attrs[attr] == "" {
			continue
		}
		n, err := strconv.ParseInt(attrs[attr], 0, 32)
		if err != nil || n < 0 {
			return s, fmt.Errorf("source %s: attribute %s: %q is not a number", s.Name(), attr, attrs[attr])
		}
		*into = int(n)
	}
	s.Perm = os.FileMode(perm) & os.ModePerm
	for attr, value := range attrs {
		if name, ok := strings.CutPrefix(attr, pb.AttrHTTPHeaderPrefix); ok {
			// The others are dropped without a word, as BuildKit does it.
			if name = http.CanonicalHeaderKey(name); name == "Accept" || name == "User-Agent" {
				s.Header.Set(name, value)
			}
		}
	}
	if attrs[pb.AttrHTTPSignatureVerifyPubKey] != "" {
		return s, fmt.Errorf("source %s: signatures are not supported", s.Name())
	}
	return s, nil
}

// File is what was downloaded.
type File struct {
	// Name is the file's name in the folder.
	Name   string
	Digest digest.Digest
	Size   int64
	// Modified is the server's Last-Modified, or nil.
	Modified *time.Time
}

// Known is what a checksum says of the file before it is downloaded.
func (s Source) Known() File { return File{Name: fileName(s, ""), Digest: s.Checksum} }

// Client downloads.
type Client struct {
	// Transport carries the requests. Default: http.DefaultTransport. Wrap it in
	// a Retry for servers that have bad moments.
	Transport http.RoundTripper
	// Secret finds the build secret of a name. Default: there is none.
	Secret func(name string) (value []byte, ok bool)
	// Uploads are files that stand for URLs of the host "buildkit-session", by
	// the URL's path without its first slash.
	Uploads map[string]string
}

// attempts is how often a download is begun whose content broke off.
const attempts = 3

// Get downloads a source into the empty folder dir. Content that is not what
// the source's checksum says is a *problem.Error that shows both digests.
func (c *Client) Get(ctx context.Context, s Source, dir string) (File, error) {
	for try := 1; ; try++ {
		file, err := c.get(ctx, s, dir)
		var broken *brokenOffError
		if err == nil || !errors.As(err, &broken) || try == attempts || ctx.Err() != nil {
			return file, c.explain(ctx, s, err)
		}
	}
}

// brokenOffError says that content ended before its end.
type brokenOffError struct{ err error }

func (b *brokenOffError) Error() string { return b.err.Error() }
func (b *brokenOffError) Unwrap() error { return b.err }

func (c *Client) get(ctx context.Context, s Source, dir string) (File, error) {
	if u, err := url.Parse(s.URL); err == nil && u.Host == "buildkit-session" {
		return c.upload(s, strings.TrimPrefix(u.Path, "/"), dir)
	}
	req, err := c.request(ctx, s)
	if err != nil {
		return File{}, err
	}
	client := http.Client{Transport: c.Transport}
	response, err := client.Do(req)
	if err != nil {
		return File{}, err
	}
	defer response.Body.Close() //nolint:errcheck // read only
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return File{}, &statusError{response.StatusCode}
	}
	file := File{Name: fileName(s, response.Header.Get("Content-Disposition"))}
	if modified, timeErr := http.ParseTime(response.Header.Get("Last-Modified")); timeErr == nil {
		file.Modified = &modified
	}
	err = write(s, &file, response.Body, dir)
	return file, err
}

// upload takes a file of this machine for the content of a URL.
func (c *Client) upload(s Source, name, dir string) (File, error) {
	from, ok := c.Uploads[name]
	if !ok {
		return File{}, fmt.Errorf("there is no upload %q", name)
	}
	in, err := os.Open(from) //nolint:gosec // the caller named it
	if err != nil {
		return File{}, err
	}
	defer in.Close() //nolint:errcheck // read only
	file := File{Name: fileName(s, "")}
	err = write(s, &file, in, dir)
	return file, err
}

// write puts the content on disk with its mode, owner and time.
func write(s Source, file *File, content io.Reader, dir string) error {
	perm := s.Perm
	if perm == 0 {
		perm = 0o600
	}
	at := filepath.Join(dir, file.Name)
	out, err := os.OpenFile(at, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // a name without slashes
	if err != nil {
		return err
	}
	algorithm := digest.SHA256
	if s.Checksum != "" {
		algorithm = s.Checksum.Algorithm()
	}
	digester := algorithm.Digester()
	size, err := io.Copy(io.MultiWriter(out, digester.Hash()), content)
	if err != nil {
		_ = out.Close()
		return &brokenOffError{err}
	}
	file.Size, file.Digest = size, digester.Digest()
	if s.UID != 0 || s.GID != 0 {
		err = out.Chown(s.UID, s.GID)
	}
	if err = errors.Join(err, out.Chmod(perm), out.Close()); err != nil {
		return err
	}
	modified := time.Unix(0, 0)
	if file.Modified != nil {
		modified = *file.Modified
	}
	if err := os.Chtimes(at, modified, modified); err != nil {
		return err
	}
	if s.Checksum != "" && file.Digest != s.Checksum {
		return &problem.Error{
			Op: "download " + s.Name(), Value: s.Checksum.String(),
			Err: fmt.Errorf("digest mismatch: %s (expected: %s)", file.Digest, s.Checksum),
			Fix: "Find out why the content changed, then correct the checksum.",
		}
	}
	return nil
}

func (c *Client) request(ctx context.Context, s Source) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "towline")
	maps.Copy(req.Header, s.Header)
	secret := c.Secret
	if secret == nil {
		secret = func(string) ([]byte, bool) { return nil, false }
	}
	if s.AuthHeaderSecret != "" {
		value, ok := secret(s.AuthHeaderSecret)
		if !ok {
			return nil, &problem.Error{
				Op: "download " + s.Name(), Input: "secrets", Err: fmt.Errorf("no secret has the id %q", s.AuthHeaderSecret),
				Fix: fmt.Sprintf("Give it as a line of input \"secrets\": %s=${{ secrets.NAME }}", s.AuthHeaderSecret),
			}
		}
		req.Header.Set("Authorization", strings.TrimSpace(string(value)))
		return req, nil
	}
	if value, ok := secret("HTTP_AUTH_HEADER_" + req.URL.Hostname()); ok {
		req.Header.Set("Authorization", strings.TrimSpace(string(value)))
	}
	if value, ok := secret("HTTP_AUTH_TOKEN_" + req.URL.Hostname()); ok {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(value)))
	}
	return req, nil
}

// statusError is a server's refusal.
type statusError struct{ code int }

func (e *statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("the server answered %d %s", e.code, http.StatusText(e.code)))
}

func (c *Client) explain(ctx context.Context, s Source, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if known, ok := errors.AsType[*problem.Error](err); ok {
		return known
	}
	p := &problem.Error{Op: "download " + s.Name(), Err: err}
	// net/http's own words quote the URL, query and all.
	if outer, ok := errors.AsType[*url.Error](err); ok {
		p.Err = outer.Err
	}
	if status, ok := errors.AsType[*statusError](err); ok {
		switch status.code {
		case http.StatusUnauthorized, http.StatusForbidden:
			p.Fix = "Give what the server wants as a build secret: HTTP_AUTH_TOKEN_HOST with a token, or HTTP_AUTH_HEADER_HOST with a whole Authorization header."
		case http.StatusNotFound, http.StatusGone:
			p.Fix = "Correct the URL: there is no file."
		}
	}
	return p
}

// fileName is the name that the source gives, or the server, or the URL.
func fileName(s Source, disposition string) string {
	if s.Filename != "" {
		return safeName(s.Filename)
	}
	if _, params, err := mime.ParseMediaType(disposition); err == nil {
		if name := params["filename"]; name != "" && !strings.HasSuffix(name, "/") {
			return safeName(path.Base(name))
		}
	}
	if u, err := url.Parse(s.URL); err == nil {
		if base := path.Base(u.Path); base != "." && base != "/" {
			return safeName(base)
		}
	}
	return safeName("")
}

// safeName is a name without folders; BuildKit's default is "download".
func safeName(raw string) string {
	name := path.Base(strings.TrimSpace(raw))
	if name == "." || name == ".." || name == "/" || strings.ContainsFunc(name, unicode.IsControl) {
		return "download"
	}
	return name
}
