package inputs

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseCache(t *testing.T) {
	t.Parallel()
	service := ActionsCache{Scope: "buildkit", URL: "https://results.example/", Token: "a.b.c", Timeout: 10 * time.Minute}
	own := ActionsCache{Scope: "shop", URL: "https://own.example/", Token: "d.e.f", Timeout: 90 * time.Second}
	tests := map[string]struct {
		from, to  string
		want      Cache
		byDefault bool
		notice    string
	}{
		"nothing": {byDefault: true},
		"several registries": {
			from: "ghcr.io/a/b:c\ntype=registry,ref=ghcr.io/a/b:d,ignore-error=true",
			to:   "type=registry,ref=ghcr.io/a/b:c,mode=max,image-manifest=true,oci-mediatypes=true,ignore-error=true\ntype=registry,ref=ghcr.io/a/b:d,mode=min",
			want: Cache{From: []string{"ghcr.io/a/b:c", "ghcr.io/a/b:d"}, To: []CacheTo{{Ref: "ghcr.io/a/b:c", Max: true}, {Ref: "ghcr.io/a/b:d"}}},
		},
		"inline": {from: "type=registry,ref=ghcr.io/a/b:c", to: "type=inline", want: Cache{From: []string{"ghcr.io/a/b:c"}, Inline: true}},
		"folders": {
			from: "type=local,src=old\ntype=local,src=/c,tag=t\ntype=local,src=/c,digest=" + digestOf("a"),
			to:   "type=local,dest=new,mode=max,tag=t",
			want: Cache{
				OtherFrom: []CachePlace{{Folder: "/github/workspace/old", Tag: "latest"}, {Folder: "/c", Tag: "t"}, {Folder: "/c", Tag: "latest", Digest: digestOf("a")}},
				OtherTo:   []CachePlace{{Folder: "/github/workspace/new", Tag: "t", Max: true}},
			},
		},
		"GitHub": {
			from: "type=gha\ntype=gha,scope=shop,url_v2=https://own.example/,token=d.e.f,timeout=90s,version=2",
			to:   "type=gha,mode=max",
			want: Cache{OtherFrom: []CachePlace{{Actions: service}, {Actions: own}}, OtherTo: []CachePlace{{Actions: service, Max: true}}},
		},
		"another compression": {
			to: "type=registry,ref=ghcr.io/a/b:c,compression=zstd,compression-level=3,force-compression=true", notice: "cache-to",
			want: Cache{To: []CacheTo{{Ref: "ghcr.io/a/b:c"}}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := job()
			env["ACTIONS_RESULTS_URL"], env["ACTIONS_RUNTIME_TOKEN"] = service.URL, service.Token
			got, err := Parse(values{"cache-from": tt.from, "cache-to": tt.to}.get, env.get)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got.Build.Cache, tt.want, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
			if got.Build.Cache.ByDefault() != tt.byDefault {
				t.Errorf("by default: got %v", got.Build.Cache.ByDefault())
			}
			if notices := strings.Join(got.Notices, "\n"); (tt.notice == "") == strings.Contains(notices, "cache") {
				t.Errorf("got notices %q", notices)
			}
		})
	}
}

func TestParseCacheMistakes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		from, to string
		want     []string
	}{
		"S3":                {to: "type=s3,bucket=b,region=r", want: []string{`"cache-to"`, "type=s3 is not offered", "type=registry", "ECR"}},
		"Azure":             {from: "type=azblob,name=x", want: []string{`"cache-from"`, "type=azblob is not offered"}},
		"unknown":           {from: "type=disk", want: []string{`"disk" is not a type`}},
		"no type":           {from: "src=x", want: []string{"no type"}},
		"inline, read":      {from: "type=inline", want: []string{"type=registry,ref=IMAGE"}},
		"inline, max":       {to: "type=inline,mode=max", want: []string{"mode=max", "type=registry"}},
		"no src":            {from: "type=local,dest=x", want: []string{"no src=FOLDER"}},
		"no dest":           {to: "type=local,src=x", want: []string{"no dest=FOLDER"}},
		"a digest":          {from: "type=local,src=x,digest=sha256:1", want: []string{"digest:"}},
		"a mode":            {to: "type=local,dest=x,mode=all", want: []string{`mode is "all"`}},
		"a timeout":         {to: "type=gha,timeout=1", want: []string{"timeout=1"}},
		"version 1":         {to: "type=gha,version=1", want: []string{"version=1", "version 2"}},
		"a scope":           {to: "\"type=gha\",\"scope=a,b\"", want: []string{"no comma"}},
		"an index":          {to: "type=registry,ref=ghcr.io/a/b:c,image-manifest=false", want: []string{"image-manifest is always true"}},
		"another attribute": {to: "type=gha,bucket=b", want: []string{"type=gha has no attribute bucket"}},
		"line 2":            {from: "ghcr.io/a/b:c\ntype=registry,ref=A", want: []string{"line 2", "ref:"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(values{"cache-from": tt.from, "cache-to": tt.to}.get, job().get)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
	_, err := Parse(values{"cache-from": "type=gha,token=secret,version=1"}.get, job().get)
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a mistake beside a token: got %v", err)
	}
}
