package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lowerItems is what is below in TestApply.
func lowerItems() []item {
	return []item{
		dir("d"), file("d/one", "1"), file("d/two", "2"), dir("d/sub"), file("d/sub/three", "3"),
		file("f", "f"), symlink("s", "d"), dir("usr"), dir("usr/lib"), symlink("lib", "usr/lib"),
		symlink("abs", "/usr/lib"), symlink("loop", "loop"), symlink("up", "../../.."), symlink("dangling", "not/there"),
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		layer []item
		// set and gone change what lowerItems makes.
		set  map[string]string
		gone []string
	}{
		"nothing":             {},
		"root entry ignored":  {layer: []item{dir("./"), dir("/")}},
		"absolute name":       {layer: []item{file("/etc/x", "x")}, set: map[string]string{"etc": "/", "etc/x": "=x"}},
		"dots inside":         {layer: []item{file("./d/../x", "x")}, set: map[string]string{"x": "=x"}},
		"whiteout of a file":  {layer: []item{file("d/.wh.one", "")}, gone: []string{"d/one"}},
		"whiteout of a dir":   {layer: []item{file(".wh.d", "")}, gone: []string{"d", "d/one", "d/two", "d/sub", "d/sub/three"}},
		"whiteout of a link":  {layer: []item{file(".wh.s", "")}, gone: []string{"s"}},
		"whiteout of nothing": {layer: []item{file(".wh.no", ""), file("no/where/.wh.x", ""), file("f/.wh.x", ""), file("dangling/.wh.x", "")}},
		"whiteout through a link": {
			layer: []item{file("s/.wh.one", "")}, gone: []string{"d/one"},
		},
		"whiteout after the new file": {layer: []item{file("d/one", "new"), file("d/.wh.one", "")}, set: map[string]string{"d/one": "=new"}},
		"whiteout before the new file": {
			layer: []item{file("d/.wh.one", ""), file("d/one", "new")}, set: map[string]string{"d/one": "=new"},
		},
		"whiteout of a dir before its new self": {
			layer: []item{file(".wh.d", ""), dir("d"), file("d/new", "n")},
			set:   map[string]string{"d/new": "=n"}, gone: []string{"d/one", "d/two", "d/sub", "d/sub/three"},
		},
		"whiteout of a dir after its new self": {
			layer: []item{dir("d"), file("d/new", "n"), file("d/sub/new", "m"), file(".wh.d", "")},
			set:   map[string]string{"d/new": "=n", "d/sub/new": "=m"}, gone: []string{"d/one", "d/two", "d/sub/three"},
		},
		"opaque first": {
			layer: []item{file("d/.wh..wh..opq", ""), file("d/new", "n")},
			set:   map[string]string{"d/new": "=n"}, gone: []string{"d/one", "d/two", "d/sub", "d/sub/three"},
		},
		"opaque last": {
			layer: []item{dir("d"), file("d/new", "n"), file("d/one", "again"), dir("d/sub"), file("d/.wh..wh..opq", "")},
			set:   map[string]string{"d/new": "=n", "d/one": "=again"}, gone: []string{"d/two", "d/sub/three"},
		},
		"opaque twice":      {layer: []item{file("d/.wh..wh..opq", ""), file("d/.wh..wh..opq", "")}, gone: []string{"d/one", "d/two", "d/sub", "d/sub/three"}},
		"opaque on nothing": {layer: []item{file("n/.wh..wh..opq", "")}, set: map[string]string{"n": "/"}},
		"aufs leftovers":    {layer: []item{dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", "x"), file(".wh..wh.aufs", "")}},
		"file to dir":       {layer: []item{dir("f"), file("f/x", "x")}, set: map[string]string{"f": "/", "f/x": "=x"}},
		"file to implied dir": {
			layer: []item{file("f/x", "x")}, set: map[string]string{"f": "/", "f/x": "=x"},
		},
		"dir to file":    {layer: []item{file("d", "x")}, set: map[string]string{"d": "=x"}, gone: []string{"d/one", "d/two", "d/sub", "d/sub/three"}},
		"dir to symlink": {layer: []item{symlink("d", "usr"), file("d/x", "x")}, set: map[string]string{"d": "->usr", "usr/x": "=x"}, gone: []string{"d/one", "d/two", "d/sub", "d/sub/three"}},
		"symlink to dir": {layer: []item{dir("s"), file("s/x", "x")}, set: map[string]string{"s": "/", "s/x": "=x"}},
		"symlink replaced, not followed": {
			layer: []item{file("s", "x")}, set: map[string]string{"s": "=x"},
		},
		"dir merged":               {layer: []item{dir("d"), file("d/four", "4")}, set: map[string]string{"d/four": "=4"}},
		"parent is a symlink":      {layer: []item{file("lib/x", "x")}, set: map[string]string{"usr/lib/x": "=x"}},
		"parent is an absolute":    {layer: []item{file("abs/deep/x", "x")}, set: map[string]string{"usr/lib/deep": "/", "usr/lib/deep/x": "=x"}},
		"parent leads above root":  {layer: []item{file("up/x", "x")}, set: map[string]string{"x": "=x"}},
		"parent dangles":           {layer: []item{file("dangling/x", "x")}, set: map[string]string{"not": "/", "not/there": "/", "not/there/x": "=x"}},
		"hard link":                {layer: []item{file("a", "a"), link("b", "a")}, set: map[string]string{"a": "=a", "b": "=a"}},
		"hard link, absolute":      {layer: []item{file("a", "a"), link("b", "/a")}, set: map[string]string{"a": "=a", "b": "=a"}},
		"hard link to below":       {layer: []item{link("b", "d/one")}, set: map[string]string{"b": "=1"}},
		"hard link through a link": {layer: []item{link("lib/b", "s/one")}, set: map[string]string{"usr/lib/b": "=1"}},
		"hard link to a symlink":   {layer: []item{link("b", "s")}, set: map[string]string{"b": "->d"}},
		"hard link to itself":      {layer: []item{link("f", "f"), link("s/one", "d/one")}},
		"hard link over a file":    {layer: []item{file("a", "a"), link("f", "a")}, set: map[string]string{"a": "=a", "f": "=a"}},
		"hard link's target replaced": {
			layer: []item{file("a", "old"), link("b", "a"), file("a", "new")}, set: map[string]string{"a": "=new", "b": "=old"},
		},
		"below's hard link kept":    {layer: []item{link("b", "f"), file("f", "new")}, set: map[string]string{"b": "=f", "f": "=new"}},
		"same file twice":           {layer: []item{file("x", "1"), file("x", "2")}, set: map[string]string{"x": "=2"}},
		"folder loses its own path": {layer: []item{symlink("x", "."), file("x/x", "x")}, set: map[string]string{"x": "=x"}},
		"replaced while open": {
			layer: []item{dir("n"), file("n/a", "1"), file("n", "f"), dir("n"), file("n/b", "2")},
			set:   map[string]string{"n": "/", "n/b": "=2"},
		},
		"global header": {layer: []item{{typ: tar.TypeXGlobalHeader, xattrs: map[string]string{"user.x": "y"}}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			apply(t, root, tarOf(t, lowerItems()...), newOptions())
			want := names(t, root)
			for _, path := range tt.gone {
				delete(want, path)
			}
			maps.Copy(want, tt.set)
			for i := range tt.layer {
				if tt.layer[i].typ == tar.TypeXGlobalHeader {
					continue
				}
				tt.layer[i].uid, tt.layer[i].gid = os.Geteuid(), os.Getegid()
			}
			layer := tarOfAny(t, tt.layer)
			apply(t, root, layer, newOptions())
			diff(t, "tree", names(t, root), want)
		})
	}
}

// tarOfAny is tarOf for a list that may be a global header.
func tarOfAny(t *testing.T, items []item) []byte {
	t.Helper()
	if len(items) == 1 && items[0].typ == tar.TypeXGlobalHeader {
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}); err != nil {
			t.Fatal(err)
		}
		if err := tw.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	return tarOf(t, items...)
}

// TestApplyEvil unpacks tars that want out. Each is refused or contained; nothing
// outside the root changes.
func TestApplyEvil(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		layer []item
		// fails is part of the error, or empty if the tar is contained.
		fails string
	}{
		"dot dot":                     {layer: []item{file("../secret", "evil")}, fails: "out of the layer"},
		"dot dot inside":              {layer: []item{file("a/../../secret", "evil")}, fails: "out of the layer"},
		"dot dot, absolute":           {layer: []item{file("/../secret", "evil")}, fails: "out of the layer"},
		"dot dot itself":              {layer: []item{dir("..")}, fails: "out of the layer"},
		"symlink, relative":           {layer: []item{symlink("l", ".."), file("l/secret", "evil")}},
		"symlink, absolute":           {layer: []item{symlink("l", "OUTSIDE"), file("l/secret", "evil")}},
		"symlink as the last name":    {layer: []item{symlink("l", "../secret"), file("l", "evil")}},
		"symlinks in a chain":         {layer: []item{symlink("a", "b/.."), symlink("b", "c/.."), symlink("c", ".."), file("a/secret", "evil")}},
		"symlink swapped for a dir":   {layer: []item{dir("l"), file("l/x", "x"), symlink("l", "OUTSIDE"), file("l/secret", "evil")}},
		"symlink loop":                {layer: []item{symlink("a", "b"), symlink("b", "a"), file("a/x", "evil")}, fails: "too many levels"},
		"symlink bomb":                {layer: bomb(), fails: "too many levels"},
		"hard link out":               {layer: []item{link("l", "../secret"), file("l", "evil")}, fails: "out of the layer"},
		"hard link out, absolute":     {layer: []item{link("l", "OUTSIDE/secret")}, fails: "no such file"},
		"hard link through a symlink": {layer: []item{symlink("s", "OUTSIDE"), link("l", "s/secret")}, fails: "no such file"},
		"hard link to a symlink out":  {layer: []item{symlink("s", "OUTSIDE/secret"), link("l", "s"), file("l", "evil")}},
		"hard link to a folder":       {layer: []item{dir("d"), link("l", "d")}, fails: "is a directory"},
		"hard link to the root":       {layer: []item{link("l", "/")}, fails: "the root"},
		"hard link into what it replaces": {
			layer: []item{dir("d"), file("d/x", "x"), link("d", "d/x")}, fails: "no such file",
		},
		"whiteout of dot dot":        {layer: []item{file(".wh...", "")}, fails: "without a name"},
		"whiteout of dot":            {layer: []item{file("d/.wh..", "")}, fails: "without a name"},
		"whiteout of nothing at all": {layer: []item{file(".wh.", "")}, fails: "without a name"},
		"whiteout through a symlink": {layer: []item{symlink("s", "OUTSIDE"), file("s/.wh.secret", "")}},
		"opaque through a symlink":   {layer: []item{symlink("s", "OUTSIDE"), file("s/.wh..wh..opq", "")}},
		"whiteout as a folder":       {layer: []item{file(".wh.d/x", "")}, fails: "whiteout used as a folder"},
		"folder through a symlink":   {layer: []item{symlink("s", "OUTSIDE"), {typ: tar.TypeDir, name: "s/sub", mode: 0o777}}},
		"folder on a symlink":        {layer: []item{symlink("s", "OUTSIDE"), {typ: tar.TypeDir, name: "s", mode: 0o777}}},
		"name too long":              {layer: []item{file(strings.Repeat("a/", 3000)+"x", "")}, fails: "longer than"},
		"file as a folder":           {layer: []item{file("x", "x"), file("x/y", "y")}, fails: "has a file there"},
		"no such type":               {layer: []item{{typ: 'X', name: "x"}}, fails: "unknown type"},
		"owner out of range":         {layer: []item{{typ: tar.TypeDir, name: "x", uid: 1 << 32}}, fails: "not a valid ID"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outside := t.TempDir()
			write(t, filepath.Join(outside, "secret"), "safe")
			write(t, filepath.Join(outside, "sub", "more"), "safe")
			root := filepath.Join(outside, "root")
			if err := os.Mkdir(root, 0o755); err != nil {
				t.Fatal(err)
			}
			for i := range tt.layer {
				tt.layer[i].link = strings.Replace(tt.layer[i].link, "OUTSIDE", outside, 1)
			}
			before := scan(t, outside)
			_, err := Apply(t.Context(), root, bytes.NewReader(tarOf(t, tt.layer...)), newOptions())
			if got := fmt.Sprint(err); tt.fails == "" && err != nil || !strings.Contains(got, tt.fails) {
				t.Errorf("got error %v, want %q", err, tt.fails)
			}
			after := scan(t, outside)
			keep := func(x *Index) (kept []entry) {
				for _, e := range x.entries {
					if e.path != "root" && !below(e.path, "root") {
						kept = append(kept, e)
					}
				}
				return kept
			}
			if changes := Compare(&Index{entries: keep(before)}, &Index{entries: keep(after)}, nil); len(changes) > 0 {
				t.Errorf("changed outside: %v", changes)
			}
		})
	}
}

// bomb is a chain of links, each of which doubles the way to go.
func bomb() []item {
	items := []item{dir("l0")}
	for i := 1; i < 20; i++ {
		last := fmt.Sprintf("l%d", i-1)
		items = append(items, symlink(fmt.Sprintf("l%d", i), last+"/../"+last))
	}
	for i := range 20 {
		items = append(items, symlink(fmt.Sprintf("m%d", i), fmt.Sprintf("m%d/../m%d/../l1", i+1, i+1)))
	}
	items = append(items, symlink("m20", "m0"))
	return append(items, file("m0/x", "x"))
}

func TestApplyTruncated(t *testing.T) {
	t.Parallel()
	layer := tarOf(t, file("x", strings.Repeat("x", 2000)))
	_, err := Apply(t.Context(), t.TempDir(), bytes.NewReader(layer[:2524]), newOptions())
	if got := fmt.Sprint(err); !strings.Contains(got, `layer entry "x": content ends after 988 of 2000 bytes`) {
		t.Errorf("got %v", err)
	}
	if _, err := Apply(t.Context(), t.TempDir(), strings.NewReader("no tar"), newOptions()); err == nil {
		t.Error("got no error for what is no tar")
	}
	cause := errors.New("told to stop")
	if _, err := Apply(cancelled(t, cause), t.TempDir(), bytes.NewReader(layer), newOptions()); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
}

// TestApplyReadsToEnd: a digest of the stream is only right if all of it is read.
func TestApplyReadsToEnd(t *testing.T) {
	t.Parallel()
	r := bytes.NewReader(append(tarOf(t, file("x", "x")), make([]byte, 20<<10)...))
	if _, err := Apply(t.Context(), t.TempDir(), r, newOptions()); err != nil || r.Len() != 0 {
		t.Errorf("got error %v, %d bytes left", err, r.Len())
	}
}

func TestApplyAttributes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long/", 100) + strings.Repeat("n", 255)
	old := time.Unix(-1000, 5)
	far := time.Unix(1<<33, 7)
	mine := func(it item) item {
		it.uid, it.gid = os.Geteuid(), os.Getegid()
		return it
	}
	root := t.TempDir()
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(root, "d"), 0o755) })
	res := apply(t, root, tarOf(t,
		mine(item{typ: tar.TypeDir, name: "d", mode: 0o1555, mtime: old, xattrs: map[string]string{"user.k": "v"}}),
		mine(item{typ: tar.TypeReg, name: "d/setuid", mode: 0o6755, data: "x", mtime: far, xattrs: map[string]string{"user.bin": "\x00\xff="}}),
		mine(item{typ: tar.TypeReg, name: "d/readonly", mode: 0o400, xattrs: map[string]string{"user.k": "v", "trusted.overlay.opaque": "y", "user.overlay.opaque": "y"}}),
		mine(item{typ: tar.TypeSymlink, name: "d/s", link: "nowhere", mtime: old}),
		mine(item{typ: tar.TypeFifo, name: "d/fifo", mode: 0o620}),
		mine(item{typ: tar.TypeReg, name: "d/\xff\xfe", data: "not UTF-8"}),
		mine(item{typ: tar.TypeReg, name: long, data: "long"}),
	), newOptions())
	if len(res.Lost) > 0 || res.Files != 7 || res.Bytes != 14 {
		t.Errorf("got %+v", res)
	}
	want := map[string]string{
		"d": "041555 -1000.000000005", "d/setuid": "106755 8589934592.000000007", "d/readonly": "100400 1000000000.123456789",
		"d/s": "120777 -1000.000000005", "d/fifo": "010620 1000000000.123456789", "d/\xff\xfe": "100755 1000000000.123456789",
		long: "100755 1000000000.123456789", "long": "040755 0.000000000",
	}
	attrs := map[string]string{
		"d": "user.k\x001\x00v", "d/setuid": "user.bin\x003\x00\x00\xff=", "d/readonly": "user.k\x001\x00v",
	}
	for _, e := range scan(t, root).entries {
		if is, ok := want[e.path]; ok {
			if got := fmt.Sprintf("%06o %d.%09d", e.mode, e.mtime.Sec, e.mtime.Nsec); got != is {
				t.Errorf("%s: got %s, want %s", e.path, got, is)
			}
			delete(want, e.path)
		}
		if e.xattrs != attrs[e.path] {
			t.Errorf("%s: got attributes %q, want %q", e.path, e.xattrs, attrs[e.path])
		}
	}
	diff(t, "missing", want, map[string]string{})
}

// TestApplyKeepsTimes: putting something into a folder that the layer has no entry
// for changes neither its times nor its mode.
func TestApplyKeepsTimes(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	readonly := item{typ: tar.TypeDir, name: "d", mode: 0o555, uid: os.Geteuid(), gid: os.Getegid()}
	apply(t, root, tarOf(t, readonly, file("d/old", "o")), newOptions())
	before := dump(t, root, view{})
	apply(t, root, tarOf(t, file("d/new", "n"), file("d/.wh.old", "")), newOptions())
	after := dump(t, root, view{})
	diff(t, "folder", after["d"], before["d"])
	diff(t, "names", names(t, root), map[string]string{"d": "/", "d/new": "=n"})
	// A folder's own entry replaces all of it, attributes too.
	again := readonly
	again.xattrs = map[string]string{"user.a": "1"}
	apply(t, root, tarOf(t, again), newOptions())
	again.xattrs = map[string]string{"user.b": "2"}
	apply(t, root, tarOf(t, again, file("d/newer", "n")), newOptions())
	if got, want := dump(t, root, view{})["d"], before["d"]+fmt.Sprintf(" %q", "user.b\x001\x002"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := os.Chmod(filepath.Join(root, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestApplyOutline(t *testing.T) {
	t.Parallel()
	layer := tarOf(t, dir("d"), file("d/a", "aaaa"), link("d/b", "d/a"), file("d/keep", "kept"), file("d/c", "cccc"), link("d/wanted", "d/c"), file("d/none", ""))
	full, outline := t.TempDir(), t.TempDir()
	apply(t, full, layer, newOptions())
	opts := newOptions()
	opts.Outline = true
	opts.Keep = func(path string) bool { return path == "d/keep" || path == "d/wanted" }
	res := apply(t, outline, layer, opts)
	diff(t, "hollow", res.Hollow, []string{"d/c"})
	if res.Bytes != 4 {
		t.Errorf("got %d bytes, want 4", res.Bytes)
	}
	diff(t, "names", names(t, outline), map[string]string{
		"d": "/", "d/a": "=", "d/b": "=", "d/keep": "=kept", "d/c": "=", "d/wanted": "=", "d/none": "=",
	})
	// All but the content is the same.
	want, got := scan(t, full).entries, scan(t, outline).entries
	for i := range want {
		w, g := want[i], got[i]
		if w.path != g.path || w.mode != g.mode || w.mtime != g.mtime || w.nlink != g.nlink && !isType(w.mode, unix.S_IFDIR) {
			t.Errorf("got %+v, want %+v", g, w)
		}
	}
	opts.Keep = nil
	if res := apply(t, t.TempDir(), layer, opts); res.Bytes != 0 || res.Hollow != nil {
		t.Errorf("got %+v", res)
	}
}

// TestApplyDefaultACL: what a layer brings does not inherit the ACL of a folder
// from below, which stays.
func TestApplyDefaultACL(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	d := filepath.Join(root, "d")
	if err := os.Mkdir(d, 0o755); err != nil {
		t.Fatal(err)
	}
	// Version 2; user rwx, group rwx, others rwx.
	acl := "\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x04\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x07\x00\xff\xff\xff\xff"
	if err := unix.Setxattr(d, "system.posix_acl_default", []byte(acl), 0); err != nil {
		t.Skipf("no ACLs here: %v", err)
	}
	before := dump(t, root, view{})
	me := item{uid: os.Geteuid(), gid: os.Getegid(), mode: 0o700}
	f, sub := me, me
	f.typ, f.name, sub.typ, sub.name = tar.TypeReg, "d/f", tar.TypeDir, "d/sub"
	apply(t, root, tarOf(t, f, sub), newOptions())
	after := dump(t, root, view{})
	diff(t, "folder", after["d"], before["d"])
	for _, path := range []string{"d/f", "d/sub"} {
		if strings.Contains(after[path], "acl") || !strings.Contains(after[path], "0700 ") {
			t.Errorf("%s: got %s", path, after[path])
		}
	}
}
