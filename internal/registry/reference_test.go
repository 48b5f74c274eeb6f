package registry

import (
	"strings"
	"testing"
)

// FuzzMirror asks for any image through any mirror: nothing panics, the image's own
// name is the last candidate, and the mirror's names the same digest or tag of the same
// repository below its prefix.
func FuzzMirror(f *testing.F) {
	f.Add("busybox", "mirror.example/hub")
	f.Add("library/busybox:1.37", "127.0.0.1:5000/")
	f.Add("docker.io/a/b@sha256:"+strings.Repeat("0", 64), "mirror.example")
	f.Add("a/b:c@sha256:"+strings.Repeat("f", 64), "[::1]:5000/x//y")
	f.Add("index.docker.io/../x", "https://mirror.example")
	f.Fuzz(func(t *testing.T, ref, mirror string) {
		c := New(Options{Mirrors: map[string]string{"docker.io": mirror}})
		parsed, err := c.parse(t.Context(), ref)
		if err != nil {
			return
		}
		found, err := c.candidates(t.Context(), parsed)
		if err != nil {
			return
		}
		last := found[len(found)-1]
		if last.Name() != parsed.Name() || len(found) > 2 {
			t.Fatalf("%q by %q: candidates %v", ref, mirror, found)
		}
		if len(found) == 2 {
			first := found[0]
			if first.Identifier() != parsed.Identifier() || !strings.HasSuffix("/"+first.Context().RepositoryStr(), "/"+parsed.Context().RepositoryStr()) {
				t.Fatalf("%q by %q: %s", ref, mirror, first)
			}
		}
	})
}
