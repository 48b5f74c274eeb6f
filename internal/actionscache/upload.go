package actionscache

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// blockSize is how much one request carries. What is larger goes in several
// blocks, which a list then joins (Azure Blob Storage: Put Block List).
const blockSize = 64 << 20

// upload writes content to a signed address, without keeping it in memory.
func (c *Client) upload(ctx context.Context, to string, size int64, open func() (io.ReadCloser, error)) error {
	if size <= blockSize {
		return c.put(ctx, to, size, map[string]string{"x-ms-blob-type": "BlockBlob"}, open)
	}
	var list struct {
		XMLName xml.Name `xml:"BlockList"`
		Latest  []string `xml:"Latest"`
	}
	for offset := int64(0); offset < size; offset += blockSize {
		id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "block-%08d", len(list.Latest)))
		at, err := withQuery(to, url.Values{"comp": {"block"}, "blockid": {id}})
		if err != nil {
			return err
		}
		if err = c.put(ctx, at, min(blockSize, size-offset), nil, func() (io.ReadCloser, error) { return from(open, offset) }); err != nil {
			return err
		}
		list.Latest = append(list.Latest, id)
	}
	body, err := xml.Marshal(list)
	if err != nil {
		return err
	}
	at, err := withQuery(to, url.Values{"comp": {"blocklist"}})
	if err != nil {
		return err
	}
	return c.put(ctx, at, int64(len(body)), nil, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil })
}

// from opens content at an offset.
func from(open func() (io.ReadCloser, error), offset int64) (io.ReadCloser, error) {
	r, err := open()
	if err != nil {
		return nil, err
	}
	if _, err = io.CopyN(io.Discard, r, offset); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

func (c *Client) put(ctx context.Context, to string, size int64, headers map[string]string, open func() (io.ReadCloser, error)) error {
	resp, err := c.try(ctx, func() (*http.Request, error) {
		r, err := open()
		if err != nil {
			return nil, err
		}
		body := struct {
			io.Reader
			io.Closer
		}{io.LimitReader(r, size), r}
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, to, body)
		if err != nil {
			_ = r.Close()
			return nil, withoutAddress(err)
		}
		req.ContentLength = size
		for key, value := range headers {
			req.Header.Set(key, value)
		}
		return req, nil
	})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func withQuery(address string, more url.Values) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", withoutAddress(err)
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += more.Encode()
	return u.String(), nil
}

// withoutAddress takes out of an error an address whose signature lets whoever
// has it read or write.
func withoutAddress(err error) error {
	if known, ok := errors.AsType[*url.Error](err); ok {
		return known.Err
	}
	return err
}

// refusal is what the service, or the storage, says.
func refusal(resp *http.Response) error {
	defer resp.Body.Close() //nolint:errcheck // only read from
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	var twirp struct {
		Code string `json:"code"`
		Msg  string `json:"msg"`
	}
	if json.Unmarshal(body, &twirp) != nil || twirp.Code == "" {
		code, _, _ := strings.Cut(resp.Header.Get("x-ms-error-code"), "\n")
		return errors.New(strings.TrimSpace(resp.Status + " " + code))
	}
	switch twirp.Code {
	case "not_found":
		return fmt.Errorf("%w: %s", errNotFound, twirp.Msg)
	case "already_exists":
		return fmt.Errorf("%w: %s", ErrExists, twirp.Msg)
	default:
		return fmt.Errorf("%s: %s", twirp.Code, twirp.Msg)
	}
}
