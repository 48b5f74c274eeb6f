package source

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/solver/pb"

	"github.com/towline/towline/internal/build/source/git"
	"github.com/towline/towline/internal/build/source/web"
	"github.com/towline/towline/internal/problem"
)

func TestParse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		op   *pb.SourceOp
		want Source
	}{
		"image": {
			op:   &pb.SourceOp{Identifier: "docker-image://docker.io/library/alpine:3@sha256:abc", Attrs: map[string]string{pb.AttrImageResolveMode: "pull"}},
			want: Image{Ref: "docker.io/library/alpine:3@sha256:abc"},
		},
		"image with limits": {
			op:   &pb.SourceOp{Identifier: "docker-image://a", Attrs: map[string]string{pb.AttrImageLayerLimit: "2", pb.AttrImageChecksum: "sha256:1"}},
			want: Image{Ref: "a", LayerLimit: 2, Checksum: "sha256:1"},
		},
		"local": {
			op: &pb.SourceOp{Identifier: "local://context", Attrs: map[string]string{
				pb.AttrExcludePatterns: `["a","!b"]`, pb.AttrFollowPaths: `["c*"]`, pb.AttrIncludePatterns: `["d"]`,
				pb.AttrSharedKeyHint: "context", pb.AttrLocalSessionID: "s", pb.AttrLocalDiffer: "none", pb.AttrLocalUniqueID: "u",
			}},
			want: Folder{Name: "context", Filter: Filter{Include: []string{"d"}, Exclude: []string{"a", "!b"}, Follow: []string{"c*"}}},
		},
		"local without filter": {op: &pb.SourceOp{Identifier: "local://dockerfile"}, want: Folder{Name: "dockerfile"}},
		"layout": {
			op:   &pb.SourceOp{Identifier: "oci-layout://x@sha256:abc", Attrs: map[string]string{pb.AttrOCILayoutStoreID: "base", pb.AttrOCILayoutLayerLimit: "1"}},
			want: Layout{Ref: "x@sha256:abc", Store: "base", LayerLimit: 1},
		},
		"git":   {op: &pb.SourceOp{Identifier: "git://h/o/r.git#v1:sub"}, want: Repository{git.Repository{Remote: "https://h/o/r.git", Ref: "v1", Subdir: "sub"}}},
		"https": {op: &pb.SourceOp{Identifier: "https://h/a"}, want: Download{web.Source{URL: "https://h/a", Header: http.Header{}}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(test.op)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Parse (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		op   *pb.SourceOp
		want string
		user bool // it is the user's to mend
	}{
		"https":             {op: &pb.SourceOp{Identifier: "https://u:hunter2@example.com/a.tgz?token=hunter2", Attrs: map[string]string{pb.AttrHTTPChecksum: "x"}}, want: `read https://example.com/a.tgz: the checksum "x"`, user: true},
		"git":               {op: &pb.SourceOp{Identifier: "git://github.com/a/b.git#a..b"}, want: "is not a name", user: true},
		"blob":              {op: &pb.SourceOp{Identifier: "docker-image+blob://a@sha256:1"}, want: `"docker-image+blob"`, user: true},
		"unreadable URL":    {op: &pb.SourceOp{Identifier: "https://%zz?hunter2"}, want: "read https://...", user: true},
		"no scheme":         {op: &pb.SourceOp{Identifier: "alpine"}, want: "no scheme"},
		"bad JSON":          {op: &pb.SourceOp{Identifier: "local://context", Attrs: map[string]string{pb.AttrExcludePatterns: "x"}}, want: pb.AttrExcludePatterns},
		"bad limit":         {op: &pb.SourceOp{Identifier: "docker-image://a", Attrs: map[string]string{pb.AttrImageLayerLimit: "-1"}}, want: "layer limit"},
		"metadata transfer": {op: &pb.SourceOp{Identifier: "local://context", Attrs: map[string]string{pb.AttrMetadataTransfer: "true"}}, want: "metadata alone"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(test.op)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Fatalf("Parse: error %v, want %q in it and no secret", err, test.want)
			}
			var p *problem.Error
			if got := errors.As(err, &p) && p.Fix != ""; got != test.user {
				t.Errorf("Parse: error %#v; a remedy is given: %t, want %t", err, got, test.user)
			}
		})
	}
}
