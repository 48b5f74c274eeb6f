package sbom_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/build/sbom"
)

func TestScan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := map[string]string{
		"etc/os-release":                                   "ID=debian\nVERSION_ID=\"12\"\n",
		"var/lib/dpkg/status":                              "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9+deb12u4\nDescription: C\n Package: not this\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
		"lib/apk/db/installed":                             "P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\nF:lib\n\n",
		"app/node_modules/@a/b/package.json":               `{"name":"@a/b","version":"1.0.0","license":"ISC"}`,
		"app/node_modules/@a/b/test/package.json":          `{"name":"no","version":"9"}`,
		"app/package.json":                                 `{"name":"own","version":"0"}`,
		"usr/lib/python3/Foo_Bar-1.2.dist-info/METADATA":   "Metadata-Version: 2.1\nName: Foo_Bar\nVersion: 1.2\n\nText: of it\n",
		"var/lib/rpm/rpmdb.sqlite":                         "SQLite format 3",
		"app/node_modules/broken/package.json":             "{",
		"usr/lib/python3/broken-1.dist-info/METADATA":      "no header",
		"usr/share/doc/var/lib/dpkg/status":                "Package: elsewhere\nVersion: 1\n",
		"usr/lib/python3/Foo_Bar-1.2.dist-info/entry.text": "x",
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	found, err := sbom.Scan(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range found.Packages {
		got = append(got, p.PURL(found.Distro, found.Version))
	}
	want := []string{
		"pkg:apk/debian/musl@1.2.5-r0?arch=x86_64&distro=debian-12",
		"pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=debian-12",
		"pkg:npm/%40a/b@1.0.0",
		"pkg:pypi/foo-bar@1.2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	if want := []string{"var/lib/rpm/rpmdb.sqlite"}; !slices.Equal(found.Unread, want) {
		t.Errorf("unread: got %q, want %q", found.Unread, want)
	}
}

// A Go program's modules are found, and two documents of the same are equal.
func TestGoProgram(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	content, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "program"), content, 0o755); err != nil {
		t.Fatal(err)
	}
	var documents [][]byte
	for range 2 {
		found, err := sbom.Scan(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(found.Packages, func(p sbom.Package) bool { return p.Name == "stdlib" && p.Version != "" }) {
			t.Fatalf("got %v, want stdlib among them", found.Packages)
		}
		document, err := found.SPDX("sha256:1", time.Unix(1, 0))
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, document)
	}
	if !bytes.Equal(documents[0], documents[1]) {
		t.Error("two documents of the same files differ")
	}
	var parsed struct {
		SPDXVersion   string
		Relationships []any
		CreationInfo  struct{ Created string }
	}
	if err := json.Unmarshal(documents[0], &parsed); err != nil {
		t.Fatal(err)
	}
	if parsed.SPDXVersion != "SPDX-2.3" || parsed.CreationInfo.Created != "1970-01-01T00:00:01Z" || len(parsed.Relationships) < 2 {
		t.Errorf("got %+v", parsed)
	}
}
