package emulator

import (
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
)

// ActionsCacheURL is where ActionsCache answers, and its content lies beside it.
const (
	ActionsCacheURL   = "https://results-receiver.actions.githubusercontent.com/"
	actionsBlobsHost  = "productionresults.blob.core.windows.net"
	actionsCacheCalls = "/twirp/github.actions.results.api.v1.CacheService/"
)

// ActionsCache is GitHub's cache service, version 2, and the storage behind it. The
// zero value is empty. Requests for other hosts go to Next.
type ActionsCache struct {
	// Next carries what is for somebody else.
	Next http.RoundTripper
	// Fault answers a request in the service's place if it gives a status. It may be nil.
	Fault func(*http.Request) int

	mu       sync.Mutex
	entries  []actionsEntry
	reserved map[string]bool
	content  map[string][]byte
	blocks   map[string]map[string][]byte
	calls    []string
}

type actionsEntry struct{ key, version string }

// ActionsCacheToken is a job's token, for a branch that it may write and others
// that it may only read. With an empty branch there is none to write.
func ActionsCacheToken(branch string, others ...string) string {
	type scope struct {
		Scope      string
		Permission int
	}
	var scopes []scope
	if branch != "" {
		scopes = append(scopes, scope{branch, 3})
	}
	for _, other := range others {
		scopes = append(scopes, scope{other, 1})
	}
	access, _ := json.Marshal(scopes)                               //nolint:errchkjson // strings
	claims, _ := json.Marshal(map[string]any{"ac": string(access)}) //nolint:errchkjson // a string
	return "e30." + base64.RawURLEncoding.EncodeToString(claims) + ".c2lnbmVk"
}

// ActionsCacheHosts are the service's and its storage's.
func ActionsCacheHosts() []string {
	return []string{strings.TrimPrefix(strings.TrimSuffix(ActionsCacheURL, "/"), "https://"), actionsBlobsHost}
}

// RoundTrip implements http.RoundTripper.
func (c *ActionsCache) RoundTrip(req *http.Request) (*http.Response, error) {
	home := ActionsCacheHosts()[0]
	if !slices.Contains(ActionsCacheHosts(), req.URL.Host) {
		return c.Next.RoundTrip(req)
	}
	rec := httptest.NewRecorder()
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		_ = req.Body.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.Fault != nil && c.fault(rec, req):
	case req.URL.Host == home:
		c.call(rec, req, body)
	default:
		c.storage(rec, req, body)
	}
	return rec.Result(), nil
}

func (c *ActionsCache) fault(w http.ResponseWriter, req *http.Request) bool {
	status := c.Fault(req)
	if status != 0 {
		w.WriteHeader(status)
	}
	return status != 0
}

// Keys are those of the entries that are there, sorted.
func (c *ActionsCache) Keys() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var keys []string
	for _, e := range c.entries {
		keys = append(keys, e.key)
	}
	slices.Sort(keys)
	return keys
}

// Calls counts the requests by what they were for.
func (c *ActionsCache) Calls() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := map[string]int{}
	for _, call := range c.calls {
		counts[call]++
	}
	return counts
}

func (c *ActionsCache) call(w http.ResponseWriter, req *http.Request, body []byte) {
	method := strings.TrimPrefix(req.URL.Path, actionsCacheCalls)
	c.calls = append(c.calls, method)
	var ask struct {
		Key         string   `json:"key"`
		Version     string   `json:"version"`
		RestoreKeys []string `json:"restore_keys"`
		SizeBytes   string   `json:"size_bytes"`
	}
	if err := json.Unmarshal(body, &ask); err != nil || ask.Key == "" || ask.Version == "" || len(ask.Key) > 512 || strings.Contains(ask.Key, ",") {
		twirp(w, http.StatusBadRequest, "invalid_argument", "key or version")
		return
	}
	if !strings.HasPrefix(req.Header.Get("Authorization"), "Bearer e30.") {
		twirp(w, http.StatusUnauthorized, "unauthenticated", "token")
		return
	}
	id := ask.Version + "/" + ask.Key
	switch method {
	case "CreateCacheEntry":
		if c.reserved[id] {
			twirp(w, http.StatusConflict, "already_exists", "cache entry with the same key, version, and scope already exists")
			return
		}
		if c.reserved == nil {
			c.reserved, c.content, c.blocks = map[string]bool{}, map[string][]byte{}, map[string]map[string][]byte{}
		}
		c.reserved[id] = true
		c.answer(w, map[string]any{"ok": true, "signed_upload_url": signed(id)})
	case "FinalizeCacheEntryUpload":
		content, ok := c.content[id]
		if !ok || fmt.Sprint(len(content)) != ask.SizeBytes {
			twirp(w, http.StatusBadRequest, "invalid_argument", "size of the upload")
			return
		}
		c.entries = append(c.entries, actionsEntry{ask.Key, ask.Version})
		c.answer(w, map[string]any{"ok": true, "entry_id": fmt.Sprint(len(c.entries))})
	case "GetCacheEntryDownloadURL":
		for _, e := range slices.Backward(c.entries) {
			prefixed := slices.ContainsFunc(ask.RestoreKeys, func(prefix string) bool { return strings.HasPrefix(e.key, prefix) })
			if e.version == ask.Version && (e.key == ask.Key || prefixed) {
				c.answer(w, map[string]any{"ok": true, "signed_download_url": signed(e.version + "/" + e.key), "matched_key": e.key})
				return
			}
		}
		c.answer(w, map[string]any{"ok": false})
	default:
		twirp(w, http.StatusNotFound, "bad_route", method)
	}
}

func signed(id string) string {
	return "https://" + actionsBlobsHost + "/" + strings.NewReplacer("#", "%23", ":", "%3A").Replace(id) + "?sig=secret"
}

func (*ActionsCache) answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

func twirp(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"code": code, "msg": message})
}

// storage is Azure's: blobs that are put at once, or in blocks that a list joins.
func (c *ActionsCache) storage(w http.ResponseWriter, req *http.Request, body []byte) {
	id, query := strings.TrimPrefix(req.URL.Path, "/"), req.URL.Query()
	what := req.Method + " " + query.Get("comp")
	c.calls = append(c.calls, strings.TrimSpace(what))
	if query.Get("sig") == "" || !c.reserved[id] || req.Method == http.MethodPut && req.ContentLength != int64(len(body)) {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	switch what {
	case "GET ":
		_, _ = w.Write(c.content[id])
		return
	case "PUT ":
		if req.Header.Get("x-ms-blob-type") != "BlockBlob" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.content[id] = body
	case "PUT block":
		blocks := maps.Clone(c.blocks[id])
		if blocks == nil {
			blocks = map[string][]byte{}
		}
		blocks[query.Get("blockid")] = body
		c.blocks[id] = blocks
	case "PUT blocklist":
		var list struct {
			Latest []string `xml:"Latest"`
		}
		if xml.Unmarshal(body, &list) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		var joined []byte
		for _, block := range list.Latest {
			part, ok := c.blocks[id][block]
			if !ok {
				w.Header().Set("x-ms-error-code", "InvalidBlockList")
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			joined = append(joined, part...)
		}
		c.content[id] = joined
	default:
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusCreated)
}
