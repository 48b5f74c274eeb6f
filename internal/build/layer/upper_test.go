package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestUpper(t *testing.T) {
	t.Parallel()
	needRoot(t)
	at := time.Unix(1_000_000_000, 5)
	tests := map[string]struct {
		change func(root string) error
		want   []string
	}{
		"nothing": {change: func(string) error { return nil }},
		"added": {change: func(root string) error {
			return errors.Join(os.Mkdir(root+"/d/new", 0o755), os.WriteFile(root+"/d/new/x", nil, 0o644))
		}, want: []string{"added d/new", "added d/new/x"}},
		"copied up unchanged": {change: func(root string) error {
			return errors.Join(os.Chmod(root+"/d/f", 0o600), os.Chmod(root+"/d/f", 0o644), os.Lchown(root+"/s", 0, 0), os.Lchown(root+"/d", 0, 0))
		}},
		"renamed and back": {change: func(root string) error {
			return errors.Join(os.Rename(root+"/d/f", root+"/tmp"), os.Rename(root+"/tmp", root+"/d/f"))
		}},
		"same size and time": {change: func(root string) error {
			return errors.Join(os.WriteFile(root+"/d/f", []byte("g"), 0o644), os.Chtimes(root+"/d/f", at, at))
		}, want: []string{"modified d/f"}},
		"linked":  {change: func(root string) error { return os.Link(root+"/d/f", root+"/d/g") }, want: []string{"modified d/f", "added d/g"}},
		"deleted": {change: func(root string) error { return os.RemoveAll(root + "/d/sub") }, want: []string{"deleted d/sub"}},
		"made and deleted": {change: func(root string) error {
			return errors.Join(os.WriteFile(root+"/d/x", nil, 0o644), os.Remove(root+"/d/x"))
		}},
		"folder made anew": {change: func(root string) error {
			return errors.Join(os.RemoveAll(root+"/d"), os.Mkdir(root+"/d", 0o755), os.Mkdir(root+"/d/sub", 0o755), os.WriteFile(root+"/d/sub/y", nil, 0o644))
		}, want: []string{"deleted d/f", "deleted d/sub/x", "added d/sub/y"}},
		"folder to file": {change: func(root string) error {
			return errors.Join(os.RemoveAll(root+"/d"), os.WriteFile(root+"/d", nil, 0o644))
		}, want: []string{"modified d"}},
		"file to folder": {change: func(root string) error {
			return errors.Join(os.Remove(root+"/d/f"), os.Mkdir(root+"/d/f", 0o755), os.WriteFile(root+"/d/f/x", nil, 0o644))
		}, want: []string{"modified d/f", "added d/f/x"}},
		"folder's time alone": {change: func(root string) error { return os.Chtimes(root+"/d", at, at) }},
		"folder's mode":       {change: func(root string) error { return os.Chmod(root+"/d", 0o711) }, want: []string{"modified d"}},
		"folder's attribute": {change: func(root string) error {
			return unix.Setxattr(root+"/d/sub", "user.k", []byte("v"), 0)
		}, want: []string{"modified d/sub"}},
		"capability": {change: func(root string) error {
			return errors.Join(unix.Setxattr(root+"/d/f", "security.capability", []byte(capability), 0))
		}, want: []string{"modified d/f"}},
		"replaced by a socket": {change: func(root string) error {
			return errors.Join(os.Remove(root+"/d/f"), unix.Mknod(root+"/d/f", unix.S_IFSOCK|0o600, 0), unix.Mknod(root+"/sock", unix.S_IFSOCK|0o600, 0))
		}, want: []string{"deleted d/f"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			low := t.TempDir()
			write(t, low+"/d/f", "f")
			write(t, low+"/d/sub/x", "x")
			if err := errors.Join(os.Symlink("d", low+"/s"), os.Chtimes(low+"/d/f", at, at)); err != nil {
				t.Fatal(err)
			}
			merged, upper := overlayMount(t, low)
			if err := tt.change(merged); err != nil {
				t.Fatal(err)
			}
			got, err := Upper(t.Context(), upper, []string{low})
			if err != nil {
				t.Fatal(err)
			}
			diff(t, "changes", changesOf(got), tt.want)
		})
	}
}

func TestUpperRefuses(t *testing.T) {
	t.Parallel()
	for attr, want := range map[string]string{"user.overlay.redirect": "redirect_dir", "user.overlay.metacopy": "metacopy"} {
		upper := t.TempDir()
		path := filepath.Join(upper, "x")
		var err error
		if strings.HasSuffix(attr, "redirect") {
			err = os.Mkdir(path, 0o755)
		} else {
			err = os.WriteFile(path, nil, 0o644)
		}
		if err = errors.Join(err, unix.Setxattr(path, attr, []byte("/y"), 0)); err != nil {
			t.Fatal(err)
		}
		_, err = Upper(t.Context(), upper, []string{t.TempDir()})
		if got := fmt.Sprint(err); !strings.Contains(got, want) {
			t.Errorf("%s: got %v", attr, err)
		}
	}
	cause := errors.New("told to stop")
	if _, err := Upper(cancelled(t, cause), t.TempDir(), nil); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
	if _, err := Upper(t.Context(), t.TempDir(), []string{"/no/such/folder"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestApplyOverlay mounts what was unpacked for overlayfs, and compares with the
// same layer unpacked upon the lower folder.
func TestApplyOverlay(t *testing.T) {
	t.Parallel()
	needRoot(t)
	tests := map[string][]item{
		"whiteouts":                 {file(".wh.f", ""), file("d/.wh.one", ""), file(".wh.no", "")},
		"opaque first":              {dir("d"), file("d/.wh..wh..opq", ""), file("d/new", "n")},
		"opaque last":               {dir("d"), file("d/new", "n"), file("d/.wh..wh..opq", "")},
		"opaque without its folder": {file("d/.wh..wh..opq", ""), file("d/new", "n")},
		"opaque twice over":         {dir("d"), file("d/.wh..wh..opq", ""), dir("d"), file("d/new", "n")},
		"whiteout then folder":      {file(".wh.d", ""), dir("d"), file("d/new", "n")},
		"folder then whiteout":      {dir("d"), file("d/new", "n"), file(".wh.d", "")},
		"whiteout implied folder":   {file(".wh.d", ""), file("d/new", "n")},
		"implied folder whiteout":   {file("d/new", "n"), file(".wh.d", "")},
		"whiteout then file":        {file(".wh.d", ""), file("d", "n")},
		"file then whiteout":        {file("d", "n"), file(".wh.d", "")},
		"file then folder":          {file("d", "n"), dir("d"), file("d/new", "n")},
		"folder then file":          {dir("d"), file("d/new", "n"), file("d", "n")},
		"implied folders":           {file("d/sub/new", "n")},
		"deep in new":               {file("n/e/w/x", "n"), file("n/e/.wh..wh..opq", "")},
	}
	for name, layer := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flat, low, top := t.TempDir(), t.TempDir(), t.TempDir()
			below := lowerItems()
			below[0].mode, below[0].uid, below[0].xattrs = 0o1770, 1000, map[string]string{"user.k": "v"}
			apply(t, flat, tarOf(t, below...), ApplyOptions{})
			apply(t, low, tarOf(t, below...), ApplyOptions{})
			apply(t, flat, tarOf(t, layer...), ApplyOptions{})
			apply(t, top, tarOf(t, layer...), ApplyOptions{Overlay: true, Lower: []string{low}})
			merged, _ := overlayMount(t, top, low)
			v := view{noDirTimes: true, noLinks: true}
			got, want := dump(t, merged, v), dump(t, flat, v)
			if strings.HasPrefix(name, "implied folder whiteout") || strings.HasPrefix(name, "whiteout implied") {
				// What the folder is like without an entry differs: it is new, or the one from below.
				delete(got, "d")
				delete(want, "d")
			}
			diff(t, "mounted", got, want)
		})
	}
}

// TestApplyOverlayUserXattr needs no privileges but for the whiteouts' devices,
// which Linux lets anyone make.
func TestApplyOverlayUserXattr(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	opts := newOptions()
	opts.Overlay, opts.UserXattr = true, true
	apply(t, root, tarOf(t, file("d/.wh..wh..opq", ""), file(".wh.gone", "")), opts)
	diff(t, "names", names(t, root), map[string]string{"d": "/", "gone": "c0"})
	value, err := grow(func(dest []byte) (int, error) {
		return unix.Getxattr(filepath.Join(root, "d"), "user.overlay.opaque", dest)
	})
	if value != "y" || err != nil {
		t.Errorf("got %q, %v", value, err)
	}
}

// TestApplyAsRoot: what only root can unpack is there, to the bit.
func TestApplyAsRoot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	root := t.TempDir()
	res := apply(t, root, tarOf(t,
		item{typ: tar.TypeReg, name: "ping", mode: 0o755, uid: 1, gid: 2, data: "x", xattrs: map[string]string{"security.capability": capability}},
		item{typ: tar.TypeReg, name: "setuid", mode: 0o6711, uid: 70_000, gid: 3_000_000, data: "x"},
		item{typ: tar.TypeLink, name: "again", link: "setuid", mode: 0o600, uid: 5},
		item{typ: tar.TypeSymlink, name: "link", link: "ping", uid: 3, gid: 4},
		item{typ: tar.TypeDir, name: "sticky", mode: 0o3777, uid: 5, gid: 6},
	), ApplyOptions{})
	if len(res.Lost) > 0 {
		t.Errorf("lost %v", res.Lost)
	}
	time := " 1000000000.123456789"
	want := map[string]string{
		"ping":   "100755 1:2" + time + fmt.Sprintf(" 1 2d7116 %q", "security.capability\x0020\x00"+capability),
		"setuid": "106711 70000:3000000" + time + ` 1 2d7116 as "again"`,
		"again":  "106711 70000:3000000" + time + ` 1 2d7116 as "again"`,
		"link":   "120777 3:4" + time + ` -> "ping"`,
		"sticky": "043777 5:6" + time,
	}
	got := dump(t, root, view{})
	for path := range want {
		want[path] = strings.ReplaceAll(want[path], "2d7116", strings.Fields(got["again"])[4])
	}
	diff(t, "tree", got, want)
}
