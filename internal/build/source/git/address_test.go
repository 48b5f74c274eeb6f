package git

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/solver/pb"

	"github.com/towline/towline/internal/problem"
)

func TestAuthorization(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t-token"
	s := newServer(t)
	s.commit(t, "app.git", map[string]string{"a": "a"})
	s.token = secret
	host := strings.TrimPrefix(s.URL, "http://")
	remote := s.URL + "/app.git"
	withUser := strings.Replace(s.URL, "http://", "http://me:"+secret+"@", 1) + "/app.git"
	secrets := func(name, value string) func(string) ([]byte, bool) {
		return func(asked string) ([]byte, bool) { return []byte(value), asked == name }
	}
	tests := map[string]struct {
		remote string
		secret func(string) ([]byte, bool)
		ok     bool
	}{
		"nothing":         {remote: remote},
		"token":           {remote: remote, secret: secrets("GIT_AUTH_TOKEN", secret), ok: true},
		"token of host":   {remote: remote, secret: secrets("GIT_AUTH_TOKEN."+host, secret+"\n"), ok: true},
		"token elsewhere": {remote: remote, secret: secrets("GIT_AUTH_TOKEN.example.org", secret)},
		"header":          {remote: remote, secret: secrets("GIT_AUTH_HEADER", basic("x", secret)), ok: true},
		"header of host":  {remote: remote, secret: secrets("GIT_AUTH_HEADER."+host, basic("x", secret)), ok: true},
		"in the URL":      {remote: withUser, ok: true},
		"wrong":           {remote: remote, secret: secrets("GIT_AUTH_TOKEN", "other")},
		"redirected":      {remote: s.URL + "/moved/app.git", secret: secrets("GIT_AUTH_TOKEN", secret)},
		"wrong in URL":    {remote: strings.Replace(withUser, secret, "h1dden", 1)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := Repository{Remote: test.remote, TokenSecret: "GIT_AUTH_TOKEN", HeaderSecret: "GIT_AUTH_HEADER"}
			_, got, err := checkoutAll(t, &Fetcher{Secret: test.secret}, r)
			if test.ok {
				if err != nil {
					t.Fatal(err)
				}
				if got["a"] == "" {
					t.Errorf("files %v", got)
				}
				return
			}
			var p *problem.Error
			if !errors.As(err, &p) || !strings.Contains(p.Fix, "GIT_AUTH_TOKEN") {
				t.Fatalf("error %v, want one that asks for a token", err)
			}
			if strings.Contains(p.Error(), "h1dden") || strings.Contains(p.Error(), secret) {
				t.Errorf("the password shows: %v", p)
			}
		})
	}
}

func TestLoginOnlyForHTTPS(t *testing.T) {
	t.Parallel()
	f := &Fetcher{Login: func(string) (string, string) { return "u", "t" }}
	if got := f.authorized(Repository{Remote: "http://h/a.git"}, "http://h/a.git", "", ""); got != http.DefaultTransport { //nolint:forbidigo // the default
		t.Errorf("a login goes over http: %v", got)
	}
	if _, ok := f.authorized(Repository{Remote: "https://h/a.git"}, "https://h/a.git", "", "").(*scoped); !ok {
		t.Error("no login over https")
	}
}

func TestScope(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		raw, scope string
		want       bool
	}{
		"itself":       {"https://h/a.git", "https://h/a.git", true},
		"below":        {"https://h/a.git/info/refs?service=x", "https://h/a.git", true},
		"beside":       {"https://h/a.git2/info", "https://h/a.git", false},
		"above":        {"https://h/a.git/../b", "https://h/a.git", false},
		"other host":   {"https://g/a.git", "https://h/a.git", false},
		"other scheme": {"http://h/a.git", "https://h/a.git", false},
		"github":       {"https://github.com/o/sub.git", scopeOf("https://u:p@github.com/o/top.git"), true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := within(test.raw, test.scope); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		identifier string
		attrs      map[string]string
		want       Repository
		err        string
	}{
		"plain":   {identifier: "git://h.example/o/r.git", want: Repository{Remote: "https://h.example/o/r.git"}},
		"all":     {identifier: "git://h.example/o/r.git#main:a/../b", attrs: map[string]string{pb.AttrFullRemoteURL: "ssh://git@h.example/o/r.git", pb.AttrKeepGitDir: "true"}, want: Repository{Remote: "ssh://git@h.example/o/r.git", Ref: "main", Subdir: "b", KeepGitDir: true}},
		"scp":     {identifier: "git://h.example/o/r.git", attrs: map[string]string{pb.AttrFullRemoteURL: "git@h.example:o/r.git"}, want: Repository{Remote: "git@h.example:o/r.git"}},
		"escape":  {identifier: "git://h.example/r.git#main:../../etc", want: Repository{Remote: "https://h.example/r.git", Ref: "main", Subdir: "etc"}},
		"other":   {identifier: "git://h.example/o/r.git", attrs: map[string]string{pb.AttrFullRemoteURL: "https://evil.example/o/r.git"}, err: "another repository"},
		"option":  {identifier: "git://h.example/r.git#--upload-pack=x", err: "is not a name"},
		"secret":  {identifier: "git://h.example/r.git", attrs: map[string]string{pb.AttrFullRemoteURL: "https://u:hidden@h.example:x/r.git"}, err: "xxxxx"},
		"sha256":  {identifier: "git://h.example/r.git#" + strings.Repeat("a", 64), err: "SHA-256"},
		"mixed":   {identifier: "git://h.example/r.git#" + strings.Repeat("a", 40), attrs: map[string]string{pb.AttrGitChecksum: "bb"}, err: "expected checksum to match bb"},
		"nothing": {identifier: "git://", err: "no repository"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(test.identifier, test.attrs)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "hidden") {
					t.Errorf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, test.want); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
		})
	}
}

func TestSubmoduleURL(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ parent, raw, want, err string }{
		"relative":    {parent: "https://h/o/top.git", raw: "../sub.git", want: "https://h/o/sub.git"},
		"far":         {parent: "https://h/o/top.git", raw: "../../x/sub.git", want: "https://h/x/sub.git"},
		"too far":     {parent: "https://h/o/top.git", raw: "../../../../sub.git", want: "https://h/sub.git"},
		"scp":         {parent: "git@h:o/top.git", raw: "../sub.git", want: "git@h:o/sub.git"},
		"absolute":    {parent: "https://h/o/top.git", raw: "https://g/sub.git", want: "https://g/sub.git"},
		"scp itself":  {parent: "https://h/o/top.git", raw: "git@g:sub.git", want: "git@g:sub.git"},
		"a path":      {parent: "https://h/o/top.git", raw: "/etc", err: "host"},
		"path 2":      {parent: "https://h/o/top.git", raw: "etc/x", err: "path on this machine"},
		"file":        {parent: "https://h/o/top.git", raw: "file:///etc", err: "protocol"},
		"ext":         {parent: "https://h/o/top.git", raw: "ext::sh -c x", err: ""},
		"option":      {parent: "https://h/o/top.git", raw: "-x", err: "no URL"},
		"option host": {parent: "https://h/o/top.git", raw: "ssh://-oProxyCommand=x/y", err: "host"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := resolveURL(test.parent, test.raw)
			if got != test.want || (test.want == "") != (err != nil) || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %q, %v; want %q, %q", got, err, test.want, test.err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"git://h/o/r.git#main:sub", "git://u:p@h/r#refs/tags/v1", "git://git@h:o/r.git", "git://#:", "git://h#a:../../b"} {
		f.Add(seed, "https://u:hunter2@h/o/r.git")
	}
	f.Fuzz(func(t *testing.T, identifier, full string) {
		r, err := Parse(identifier, map[string]string{pb.AttrFullRemoteURL: full})
		if err != nil {
			return
		}
		if strings.HasPrefix(r.Ref, "-") || strings.HasPrefix(r.Remote, "-") {
			t.Errorf("%+v: an option", r)
		}
		if strings.HasPrefix(r.Subdir, "/") || r.Subdir == ".." || strings.HasPrefix(r.Subdir, "../") || strings.Contains(r.Subdir, "/../") {
			t.Errorf("%+v: the folder leads out", r)
		}
		if strings.Contains(r.Remote, ":hunter2@") && strings.Contains(r.Name(), "hunter2") {
			t.Errorf("%s: shows a password", r.Name())
		}
	})
}

func FuzzModules(f *testing.F) {
	f.Add([]byte("[submodule \"a\"]\n\tpath = a\n\turl = ../a.git\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		found, err := parseModules(content)
		if err != nil {
			return
		}
		for _, sub := range found {
			if got, err := resolveURL("https://h/o/top.git", sub.url); err == nil && (strings.HasPrefix(got, "-") || strings.HasPrefix(got, "/") || strings.HasPrefix(got, "file:")) {
				t.Errorf("%q is fetched", got)
			}
		}
	})
}
