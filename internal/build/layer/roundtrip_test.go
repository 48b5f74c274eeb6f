package layer

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// scriptOf gives the same script for the same seed.
func scriptOf(seed uint64, size int) []byte {
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	script := make([]byte, size)
	_, _ = random.Read(script)
	return script
}

// whole packs all of root.
func whole(t *testing.T, root string) []byte {
	t.Helper()
	return layerOf(t, root, Compare(&Index{}, scan(t, root), nil), WriteOptions{})
}

// checkRoundTrip makes a tree, copies it by a layer, changes it, and takes the
// change over to the copy by a second layer.
func checkRoundTrip(t *testing.T, base, change []byte) {
	t.Helper()
	privileged := os.Geteuid() == 0
	src, dst := t.TempDir(), t.TempDir()
	if err := scripted(src, base, privileged); err != nil {
		t.Fatal(err)
	}
	first := whole(t, src)
	apply(t, dst, first, newOptions())
	diff(t, "after the first layer", dump(t, dst, view{}), dump(t, src, view{}))
	if again := whole(t, dst); !bytes.Equal(again, first) {
		t.Error("the copy's layer has other bytes")
	}
	before := settled(t, src)
	if err := scripted(src, change, privileged); err != nil {
		t.Fatal(err)
	}
	changes := Compare(before, scan(t, src), nil)
	second := layerOf(t, src, changes, WriteOptions{})
	apply(t, dst, second, newOptions())
	diff(t, "after the second layer", dump(t, dst, view{noDirTimes: true, noLinks: true}), dump(t, src, view{noDirTimes: true, noLinks: true}))
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			checkRoundTrip(t, scriptOf(seed, 1500), scriptOf(seed+1000, 400))
		})
	}
}

// overlayMount mounts an overlay of lowers, topmost first, and gives its root
// and its upper folder.
func overlayMount(t *testing.T, lowers ...string) (merged, upper string) {
	t.Helper()
	base := t.TempDir()
	for _, name := range []string{"merged", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(base, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	merged, upper = filepath.Join(base, "merged"), filepath.Join(base, "upper")
	options := "index=off,redirect_dir=off,metacopy=off,upperdir=" + upper + ",workdir=" + filepath.Join(base, "work") + ",lowerdir="
	for i, lower := range lowers {
		if i > 0 {
			options += ":"
		}
		options += lower
	}
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		t.Fatalf("mount overlay: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(merged, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return merged, upper
}

// TestOverlayRoundTrip changes a tree through overlayfs, packs the upper folder, and unpacks
// it both upon a copy of the tree and as a lower folder of another mount.
func TestOverlayRoundTrip(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			low1, low2, flat := t.TempDir(), t.TempDir(), t.TempDir()
			if err := scripted(low1, scriptOf(seed, 1000), true); err != nil {
				t.Fatal(err)
			}
			apply(t, flat, whole(t, low1), ApplyOptions{})

			merged, upper := overlayMount(t, low1)
			if err := scripted(merged, scriptOf(seed+1000, 300), true); err != nil {
				t.Fatal(err)
			}
			changes, err := Upper(t.Context(), upper, []string{low1})
			if err != nil {
				t.Fatal(err)
			}
			layer := layerOf(t, upper, changes, WriteOptions{})
			v := view{noDirTimes: true, noLinks: true}
			want := dump(t, merged, v)
			apply(t, flat, layer, ApplyOptions{})
			diff(t, "unpacked upon a copy", dump(t, flat, v), want)

			apply(t, low2, layer, ApplyOptions{Overlay: true, Lower: []string{low1}})
			both, upper := overlayMount(t, low2, low1)
			diff(t, "mounted", dump(t, both, v), want)

			// The same over two lower layers.
			if err = scripted(both, scriptOf(seed+2000, 300), true); err != nil {
				t.Fatal(err)
			}
			changes, err = Upper(t.Context(), upper, []string{low2, low1})
			if err != nil {
				t.Fatal(err)
			}
			apply(t, flat, layerOf(t, upper, changes, WriteOptions{}), ApplyOptions{})
			diff(t, "third layer", dump(t, flat, v), dump(t, both, v))
		})
	}
}

// FuzzCompareWrite is TestRoundTrip with scripts of the fuzzer's choice.
func FuzzCompareWrite(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(scriptOf(seed, 200), scriptOf(seed+1000, 80))
	}
	f.Fuzz(func(t *testing.T, base, change []byte) {
		if len(base) > 2000 || len(change) > 1000 {
			t.Skip("longer scripts find nothing new")
		}
		checkRoundTrip(t, base, change)
	})
}
