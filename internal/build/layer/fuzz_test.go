package layer

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzApply unpacks whatever bytes there are: nothing outside the root may
// change, and nothing may panic.
func FuzzApply(f *testing.F) {
	f.Add(tarOfSeed(lowerItems()), false)
	f.Add(tarOfSeed([]item{symlink("l", ".."), file("l/secret", "evil"), link("h", "l/secret"), file("l/.wh.secret", ""), file("l/.wh..wh..opq", "")}), false)
	f.Add(tarOfSeed([]item{dir("d"), file("d/.wh..wh..opq", ""), file(".wh.d", ""), file("d/x", "x"), symlink("d", "/"), link("y", "d/x")}), true)
	f.Add(tarOfSeed([]item{file("a", "a"), symlink("b", "a/../../.."), file("b/c/d", "x"), {typ: '6', name: "fifo"}, {typ: '5', name: "b", mode: 0o1777}}), true)
	f.Fuzz(func(t *testing.T, layer []byte, overlay bool) {
		outside := t.TempDir()
		secret := filepath.Join(outside, "secret")
		root := filepath.Join(outside, "root")
		write(t, secret, "safe")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		before := scan(t, outside)
		opts := newOptions()
		opts.Overlay, opts.UserXattr = overlay, overlay
		_, applyErr := Apply(t.Context(), root, bytes.NewReader(layer), opts)
		if data, err := os.ReadFile(secret); err != nil || string(data) != "safe" {
			t.Fatalf("secret is %q, %v", data, err)
		}
		names, err := os.ReadDir(outside)
		if err != nil || len(names) != 2 {
			t.Fatalf("got %v, %v", names, err)
		}
		for _, c := range Compare(before, scan(t, outside), nil) {
			if !below(c.Path, "root") {
				t.Fatalf("%s outside: %s", c.Kind, c.Path)
			}
		}
		if applyErr != nil || overlay {
			return
		}
		// What was unpacked can be packed and unpacked again.
		again := filepath.Join(outside, "again")
		if err := os.Mkdir(again, 0o755); err != nil {
			t.Fatal(err)
		}
		apply(t, again, whole(t, root), opts)
		diff(t, "again", dump(t, again, view{}), dump(t, root, view{}))
	})
}

func tarOfSeed(items []item) []byte { return tarOf(&testing.T{}, items...) }
