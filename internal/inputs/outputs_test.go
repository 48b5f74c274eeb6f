package inputs

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towline/towline/internal/problem"
)

func digestOf(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// What a build makes of its inputs, beside the rest.
func TestParseResult(t *testing.T) {
	t.Parallel()
	app := Repository{Name: "app"}
	other := Repository{"registry.example.com", "o/app"}
	tests := map[string]struct {
		set  values
		want func(*Settings)
	}{
		"platforms": {values{"platforms": "linux/amd64, linux/ARM64/v8\nlinux/amd64,linux/arm"}, func(s *Settings) {
			s.Build.Platforms = []string{"linux/amd64", "linux/arm64", "linux/arm/v7"}
		}},
		"exports": {values{
			"outputs": "type=oci,dest=out/image.tar,\"name=a.example/x:1,a.example/x:2\"\ntype=docker,dest=/home/runner/work/_temp/d.tar\n" +
				"type=oci,dest=layout,tar=false,oci-mediatypes=false\ndist\ntype=tar,dest=root.tar",
		}, func(s *Settings) {
			s.Build.Exports = []Export{
				{Type: "oci", Dest: "/github/workspace/out/image.tar", Names: []string{"a.example/x:1", "a.example/x:2"}},
				{Type: "docker", Dest: "/github/runner_temp/d.tar"},
				{Type: "oci", Dest: "/github/workspace/layout", Folder: true, Manifests: Manifests{DockerTypes: true}},
				{Type: "local", Dest: "/github/workspace/dist"},
				{Type: "tar", Dest: "/github/workspace/root.tar"},
			}
		}},
		"an export is not pushed": {values{"tags": "app:v1", "outputs": "type=docker,dest=x.tar"}, func(s *Settings) {
			s.Build.Tags = []Tag{{Repository{"index.docker.io", "library/app"}, "v1"}}
			s.Build.Exports = []Export{{Type: "docker", Dest: "/github/workspace/x.tar"}}
		}},
		"an export and the image": {values{"repository": "app", "tags": "v1", "outputs": "type=tar,dest=x.tar\ntype=image,oci-mediatypes=false"}, func(s *Settings) {
			s.Registry.Repository, s.Build.Tags, s.Build.Push = app, []Tag{{app, "v1"}}, true
			s.Build.Exports, s.Build.Manifests.DockerTypes = []Export{{Type: "tar", Dest: "/github/workspace/x.tar"}}, true
		}},
		"an image with its name": {values{"outputs": "type=registry,name=registry.example.com/o/app:v2"}, func(s *Settings) {
			s.Build.Tags, s.Build.Push = []Tag{{other, "v2"}}, true
		}},
		"an image that is not pushed": {values{"repository": "app", "outputs": "type=image,push=false"}, func(s *Settings) {
			s.Registry.Repository, s.Build.Tags = app, []Tag{{app, "0123456789ab"}}
		}},
		"by digest": {values{"repository": "app", "outputs": "type=image,push-by-digest=true,name-canonical=true,push=true"}, func(s *Settings) {
			s.Registry.Repository, s.Build.DigestRepositories, s.Build.Push, s.Build.PushByDigest = app, []Repository{app}, true, true
		}},
		"by digest, with the repository among the tags": {values{"tags": "registry.example.com/o/app", "outputs": "type=image,push-by-digest=true"}, func(s *Settings) {
			s.Build.DigestRepositories, s.Build.Push, s.Build.PushByDigest = []Repository{other}, true, true
		}},
		"by digest, with its name": {values{"outputs": "type=image,push-by-digest=true,name=registry.example.com/o/app"}, func(s *Settings) {
			s.Build.DigestRepositories, s.Build.Push, s.Build.PushByDigest = []Repository{other}, true, true
		}},
		"merge": {values{"repository": "app", "tags": "v1", "merge-digests": digestOf("a") + ",\n" + "registry.example.com/o/app@" + digestOf("b"), "annotations": "index:k=v"}, func(s *Settings) {
			s.Registry.Repository, s.Build.Tags, s.Build.Push = app, []Tag{{app, "v1"}}, true
			s.Build.MergeDigests = []Digest{{app, digestOf("a")}, {other, digestOf("b")}}
			s.Build.Annotations = []Annotation{{Place: "index", Key: "k", Value: "v"}}
			s.Build.Manifests.Annotations = s.Build.Annotations
		}},
		"annotations": {values{
			"platforms": "linux/amd64,linux/arm64", "annotations": "a=1=2\nindex,manifest[linux/aarch64]:b=x y\nmanifest-descriptor:c=",
			"outputs": "type=image,annotation.Own=o,annotation-index.d=e\ntype=oci,dest=x,annotation-manifest[linux/amd64].f=g\ntype=docker,dest=y",
		}, func(s *Settings) {
			s.Build.Platforms = []string{"linux/amd64", "linux/arm64"}
			s.Build.Annotations = []Annotation{
				{"manifest", "", "a", "1=2"}, {"index", "", "b", "x y"}, {"manifest", "linux/arm64", "b", "x y"}, {"manifest-descriptor", "", "c", ""},
			}
			own := []Annotation{{"index", "", "d", "e"}, {"manifest", "", "Own", "o"}}
			s.Build.Manifests.Annotations = slices.Concat(own, s.Build.Annotations)
			s.Build.Exports = []Export{
				{Type: "oci", Dest: "/github/workspace/x", Manifests: Manifests{Annotations: append([]Annotation{{"manifest", "linux/amd64", "f", "g"}}, s.Build.Annotations...)}},
				{Type: "docker", Dest: "/github/workspace/y"},
			}
		}},
		"RUN": {values{
			"add-hosts": "db:10.0.0.1, v6=[::1]\nold:::2", "network": "host", "shm-size": "1g", "ulimit": "nofile=10:20,core=0",
			"no-cache": "true", "no-cache-filters": "a,b\nc", "pull": "true", "allow": "network.host",
		}, func(s *Settings) {
			s.Build.Run = Run{AddHosts: []string{"db=10.0.0.1", "v6=::1", "old=::2"}, Network: "host", ShmSize: 1 << 30, Ulimits: []string{"nofile=10:20", "core=0"}}
			s.Build.NoCache, s.Build.NoCacheStages = true, []string{"a", "b", "c"}
		}},
		"zstd": {values{"compression": "zstd"}, func(s *Settings) { s.Build.Compression.Kind = "zstd" }},
		"a level of zstd": {values{"outputs": "type=image,push=true,compression=zstd,compression-level=19"}, func(s *Settings) {
			s.Build.Compression = Compression{Kind: "zstd", Level: 19}
		}},
		"the commit's time": {values{"source-date-epoch": "commit"}, func(s *Settings) { s.Build.SourceDateEpoch = "commit" }},
		"a time":            {values{"source-date-epoch": "1700000000"}, func(s *Settings) { s.Build.SourceDateEpoch = "1700000000" }},
		"a cache without a mode": {values{"cache-to": "type=registry,ref=ghcr.io/acme/cache:main"}, func(s *Settings) {
			s.Build.Cache.To = []CacheTo{{Ref: "ghcr.io/acme/cache:main"}}
		}},
		"a question": {values{"call": "outline", "service": "web"}, func(s *Settings) { s.Build.Call, s.Deployment.Service = "outline", "web" }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := job()
			env["RUNNER_TEMP"] = "/github/runner_temp"
			got, err := Parse(tt.set.get, env.get)
			if err != nil {
				t.Fatal(err)
			}
			want := defaults()
			tt.want(&want)
			if diff := cmp.Diff(got, want, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("got -, want +:\n%s", diff)
			}
		})
	}
}

func TestParseResultMistakes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		set  values
		want []string
	}{
		"no dest":                {values{"outputs": "type=docker"}, []string{"line 1: no dest=PATH", "no Docker engine"}},
		"the log":                {values{"outputs": "-"}, []string{"dest=- is the log"}},
		"no type":                {values{"outputs": "dest=x"}, []string{"no type"}},
		"an unknown type":        {values{"outputs": "type=cacheonly,dest=x"}, []string{`"cacheonly" is not a type`}},
		"an unknown attribute":   {values{"outputs": "type=oci,dest=x,unpack=true"}, []string{"type=oci has no attribute unpack"}},
		"no attribute":           {values{"outputs": "type=oci,dest"}, []string{`"dest" is not ATTRIBUTE=VALUE`}},
		"twice the same place":   {values{"outputs": "type=oci,dest=x\ntype=tar,dest=./x"}, []string{"line 2", "another line's dest"}},
		"two images":             {values{"outputs": "type=image\ntype=registry"}, []string{"the image has a line already"}},
		"twice":                  {values{"outputs": "type=oci,dest=x,dest=y"}, []string{"dest stands twice"}},
		"neither true nor false": {values{"outputs": "type=image,push=maybe"}, []string{"push=maybe"}},
		"a compression":          {values{"outputs": "type=oci,dest=x,compression=lz4"}, []string{"compression=lz4", "gzip or zstd"}},
		"estargz":                {values{"compression": "estargz"}, []string{`"compression" is "estargz"`, "gzip, zstd"}},
		"a level":                {values{"outputs": "type=oci,dest=x,compression-level=23"}, []string{"compression-level=23"}},
		"a level of gzip":        {values{"outputs": "type=oci,dest=x,compression-level=10"}, []string{"gzip has 9 levels"}},
		"two compressions":       {values{"outputs": "type=oci,dest=x,compression=zstd\ntype=image,compression=gzip"}, []string{"two ways"}},
		"two levels":             {values{"outputs": "type=oci,dest=x,compression-level=1\ntype=image,compression-level=2"}, []string{"two ways"}},
		"input and line":         {values{"compression": "zstd", "outputs": "type=oci,dest=x,compression=gzip"}, []string{"two ways"}},
		"zstd for docker":        {values{"compression": "zstd", "outputs": "type=docker,dest=x"}, []string{"no zstd", "type=oci"}},
		"zstd, Docker's types":   {values{"outputs": "type=image,compression=zstd,oci-mediatypes=false"}, []string{"no zstd"}},
		"force":                  {values{"outputs": "type=oci,dest=x,force-compression=true"}, []string{"force-compression"}},
		"annotations of Docker":  {values{"outputs": "type=docker,dest=x,annotation.a=b"}, []string{"has no annotations"}},
		"annotations, types":     {values{"platforms": "linux/amd64,linux/arm64", "outputs": "type=oci,dest=x,oci-mediatypes=false,annotation-index.a=b"}, []string{"manifests only"}},
		"a quote":                {values{"outputs": `type=oci,"dest=x`}, []string{"line 1"}},
		"a folder for Docker":    {values{"outputs": "type=docker,dest=x,tar=false"}, []string{"tar=false is for type=oci"}},
		"exported, not pushed":   {values{"service": "web", "repository": "app", "outputs": "type=tar,dest=x"}, []string{`input "outputs"`, "not pushed", `Set "push" to true`}},

		"by digest, with a tag":         {values{"repository": "app", "tags": "v1", "outputs": "type=image,push-by-digest=true"}, []string{`"tags" is "v1"`, "gives no tag"}},
		"by digest, with another tag":   {values{"tags": "h.example/a:v1", "outputs": "type=image,push-by-digest=true"}, []string{"gives no tag"}},
		"by digest, nowhere":            {values{"outputs": "type=image,push-by-digest=true"}, []string{"push-by-digest without a repository"}},
		"place of an annotation":        {values{"annotations": "layer:a=b"}, []string{`"layer" is not a place`}},
		"an annotation without a value": {values{"annotations": "a"}, []string{"has no value"}},
		"an index for one platform":     {values{"annotations": "index:a=b"}, []string{"one platform has no index"}},
		"an index of a platform":        {values{"platforms": "linux/amd64,linux/arm64", "annotations": "index[linux/arm64]:a=b"}, []string{"an index is for all platforms"}},
		"another platform":              {values{"platforms": "linux/amd64", "annotations": "manifest[linux/arm64]:a=b"}, []string{"nothing is built for linux/arm64"}},

		"merge, no digest":         {values{"repository": "app", "merge-digests": "v1"}, []string{`input "merge-digests" is "v1"`, "sha256"}},
		"merge, one is missing":    {values{"repository": "app", "merge-digests": digestOf("a") + "\n\n"}, []string{"line 2 is empty"}},
		"merge, none arrived":      {values{"repository": "app", "merge-digests": "\n\n"}, []string{"line 1 is empty"}},
		"merge, twice":             {values{"repository": "app", "merge-digests": digestOf("a") + "\n" + digestOf("a")}, []string{"twice"}},
		"merge, nowhere":           {values{"merge-digests": digestOf("a")}, []string{"a digest without a repository"}},
		"merge and build":          {values{"repository": "app", "merge-digests": digestOf("a"), "build-args": "A=b"}, []string{"nothing is built", `"build-args"`}},
		"merge, not pushed":        {values{"repository": "app", "merge-digests": digestOf("a"), "push": "false"}, []string{`input "push"`}},
		"merge, other annotations": {values{"repository": "app", "merge-digests": digestOf("a"), "annotations": "a=b"}, []string{"index:KEY=value"}},
		"merge, an image too":      {values{"service": "s", "repository": "app", "merge-digests": digestOf("a"), "image": "x"}, []string{`"merge-digests"`}},

		"call":           {values{"call": "lint"}, []string{`"call" is "lint"`, "build, check, outline, targets"}},
		"network":        {values{"network": "bridge"}, []string{`"network" is "bridge"`}},
		"host":           {values{"add-hosts": "a"}, []string{"not HOST:IP"}},
		"host's address": {values{"add-hosts": "a:b"}, []string{`"b" is not an IP address`}},
		"host-gateway":   {values{"add-hosts": "a:host-gateway"}, []string{"host-gateway"}},
		"shm-size":       {values{"shm-size": "big"}, []string{"not a size"}},
		"mounts' size":   {values{"cache-mounts-max-size": "0"}, []string{"cache-mounts-max-size", "not a size"}},
		"ulimit":         {values{"ulimit": "nofiles=1"}, []string{`"ulimit" is "nofiles=1"`}},
		"allow":          {values{"allow": "all"}, []string{"not a right"}},
		"epoch":          {values{"source-date-epoch": "yesterday"}, []string{"not a time"}},
		"epoch, context": {values{"source-date-epoch": "context"}, []string{"Write commit"}},
		"epoch, twice":   {values{"source-date-epoch": "1", "build-args": "SOURCE_DATE_EPOCH=2"}, []string{"build argument"}},
		"docker's own":   {values{"tags": "app:v1"}, []string{"Docker's own images"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(tt.set.get, job().get)
			if err == nil {
				t.Fatal("no error")
			}
			for _, p := range problem.All("", err) {
				if p.Input == "" || p.Fix == "" {
					t.Errorf("%v: no input, or no fix", p)
				}
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
			if known := problem.All("", err); len(known) != 1 {
				t.Errorf("got %d mistakes, want 1: %v", len(known), errors.Join(err))
			}
		})
	}
}

func TestWithoutEffect(t *testing.T) {
	t.Parallel()
	set := values{"builder": "mine", "load": "true", "cgroup-parent": "x", "allow": "security.insecure"}
	s, err := Parse(set.get, job().get)
	if err != nil || len(s.Notices) != 2 || len(s.Warnings) != 2 {
		t.Errorf("got %q, %q, %v, want two notices and two warnings", s.Notices, s.Warnings, err)
	}
}

func TestEpochOfTheEnvironment(t *testing.T) {
	t.Parallel()
	env := job()
	env["SOURCE_DATE_EPOCH"] = "12"
	s, err := Parse(values{}.get, env.get)
	if err != nil || s.Build.SourceDateEpoch != "12" {
		t.Errorf("got %q, %v, want 12", s.Build.SourceDateEpoch, err)
	}
}
