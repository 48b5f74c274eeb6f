// Package sbom lists what a root filesystem holds, as an SPDX document.
//
// It reads what package managers leave behind: the databases of dpkg and apk,
// the build information of Go programs, and the metadata of npm and Python
// packages. The same files give the same bytes.
package sbom

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/textproto"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
)

// Package is something that is installed.
type Package struct {
	// Kind is its type in a package URL: deb, apk, golang, npm or pypi.
	Kind string
	// Name and Version are as its package manager writes them.
	Name, Version string
	// Arch is that of a package of an operating system, or empty.
	Arch string
	// License is what the package says of itself, or empty.
	License string
	// Path is where that was read, from the root and without a leading slash.
	Path string
}

// maxMetadata is the most that is read of one file, in bytes.
const maxMetadata = 64 << 20

// Inventory is what was found.
type Inventory struct {
	// Packages are sorted and have no duplicates.
	Packages []Package
	// Distro is ID and Version the VERSION_ID of os-release, or empty.
	Distro, Version string
	// Unread names databases that are there and are not understood, such as rpm's.
	Unread []string
}

// Scan reads the root filesystem at dir. Links that lead out of it are not
// followed, and metadata that cannot be understood is passed over.
func Scan(ctx context.Context, dir string) (*Inventory, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("root filesystem: %w", err)
	}
	defer root.Close() //nolint:errcheck // only read from
	s := &scan{files: root.FS(), root: root, found: &Inventory{}}
	s.release()
	err = fs.WalkDir(s.files, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("file %s: %w", name, err)
		case entry.IsDir() && (name == "proc" || name == "sys" || name == "dev"):
			return fs.SkipDir
		case entry.Type().IsRegular():
			s.file(name, entry)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(s.found.Packages, compare)
	s.found.Packages = slices.CompactFunc(s.found.Packages, func(a, b Package) bool {
		a.Path, b.Path = "", ""
		return a == b
	})
	slices.Sort(s.found.Unread)
	return s.found, nil
}

func compare(a, b Package) int {
	return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version),
		strings.Compare(a.Arch, b.Arch), strings.Compare(a.License, b.License), strings.Compare(a.Path, b.Path))
}

// scan is one walk over a root filesystem.
type scan struct {
	root  *os.Root
	files fs.FS
	found *Inventory
}

func (s *scan) release() {
	data, err := fs.ReadFile(s.files, "etc/os-release")
	if err != nil {
		data, err = fs.ReadFile(s.files, "usr/lib/os-release")
	}
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			s.found.Distro = value
		case "VERSION_ID":
			s.found.Version = value
		}
	}
}

// file looks at one regular file.
func (s *scan) file(name string, entry fs.DirEntry) {
	dir, base := path.Split(name)
	switch {
	case name == "var/lib/dpkg/status", dir == "var/lib/dpkg/status.d/" && !strings.HasSuffix(base, ".md5sums"):
		s.dpkg(name)
	case name == "lib/apk/db/installed", name == "usr/lib/apk/db/installed":
		s.apk(name)
	case strings.HasSuffix(dir, "lib/rpm/") && strings.HasPrefix(base, "rpmdb.sqlite") && base == "rpmdb.sqlite", dir == "var/lib/rpm/" && (base == "Packages" || base == "Packages.db"):
		s.found.Unread = append(s.found.Unread, name)
	case base == "package.json" && ofNPM(dir):
		s.npm(name)
	case base == "METADATA" && strings.HasSuffix(dir, ".dist-info/"), base == "PKG-INFO" && strings.HasSuffix(dir, ".egg-info/"):
		s.python(name)
	default:
		if info, err := entry.Info(); err == nil && info.Mode()&0o111 != 0 && info.Size() > 0 {
			s.program(name)
		}
	}
}

// ofNPM says whether dir, with its slash, is that of an installed package:
// node_modules/NAME/ or node_modules/@SCOPE/NAME/.
func ofNPM(dir string) bool {
	parent, name := path.Split(strings.TrimSuffix(dir, "/"))
	if name == "" {
		return false
	}
	if scopeDir, scope := path.Split(strings.TrimSuffix(parent, "/")); strings.HasPrefix(scope, "@") {
		parent = scopeDir
	}
	return path.Base(strings.TrimSuffix(parent, "/")) == "node_modules"
}

func (s *scan) read(name string) []byte {
	if info, err := fs.Stat(s.files, name); err != nil || !info.Mode().IsRegular() || info.Size() > maxMetadata {
		return nil
	}
	data, err := fs.ReadFile(s.files, name)
	if err != nil {
		return nil
	}
	return data
}

func (s *scan) add(p Package) {
	if p.Name != "" {
		s.found.Packages = append(s.found.Packages, p)
	}
}

// dpkg reads the paragraphs of a status file (deb822(5)).
func (s *scan) dpkg(name string) {
	for paragraph := range bytes.SplitSeq(s.read(name), []byte("\n\n")) {
		fields := map[string]string{}
		for line := range strings.Lines(string(paragraph)) {
			if key, value, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "\t") {
				fields[key] = strings.TrimSpace(value)
			}
		}
		if status := fields["Status"]; status != "" && !strings.HasSuffix(status, " installed") {
			continue // removed, with its configuration left
		}
		s.add(Package{Kind: "deb", Name: fields["Package"], Version: fields["Version"], Arch: fields["Architecture"], Path: name})
	}
}

// apk reads the paragraphs of apk's database (apk-installed(5)).
func (s *scan) apk(name string) {
	for paragraph := range bytes.SplitSeq(s.read(name), []byte("\n\n")) {
		p := Package{Kind: "apk", Path: name}
		for line := range strings.Lines(string(paragraph)) {
			key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), ":")
			switch key {
			case "P":
				p.Name = value
			case "V":
				p.Version = value
			case "A":
				p.Arch = value
			case "L":
				p.License = value
			}
		}
		s.add(p)
	}
}

func (s *scan) npm(name string) {
	var manifest struct {
		Name, Version string
		License       any
	}
	if json.Unmarshal(s.read(name), &manifest) != nil {
		return
	}
	license, _ := manifest.License.(string)
	s.add(Package{Kind: "npm", Name: manifest.Name, Version: manifest.Version, License: license, Path: name})
}

func (s *scan) python(name string) {
	data := append(s.read(name), "\n\n"...)
	header, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(data))).ReadMIMEHeader()
	if err != nil {
		return
	}
	s.add(Package{
		Kind: "pypi", Name: strings.ToLower(strings.ReplaceAll(header.Get("Name"), "_", "-")), Version: header.Get("Version"),
		License: header.Get("License-Expression"), Path: name,
	})
}

// program reads the modules that a Go program was built of.
func (s *scan) program(name string) {
	f, err := s.root.Open(name)
	if err != nil {
		return
	}
	defer f.Close() //nolint:errcheck // only read from
	magic := make([]byte, 4)
	if _, err = f.ReadAt(magic, 0); err != nil || string(magic) != "\x7fELF" {
		return
	}
	info, err := buildinfo.Read(f)
	if err != nil {
		return
	}
	s.add(Package{Kind: "golang", Name: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go"), Path: name})
	s.add(Package{Kind: "golang", Name: info.Main.Path, Version: info.Main.Version, Path: name})
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		s.add(Package{Kind: "golang", Name: m.Path, Version: m.Version, Path: name})
	}
}

// PURL is the package's URL (package-url/purl-spec) on a distribution.
func (p Package) PURL(distro, version string) string {
	name := p.Name
	query := url.Values{}
	switch p.Kind {
	case "deb", "apk":
		name = distro + "/" + name
		if distro == "" {
			name = p.Name
		}
		if p.Arch != "" {
			query.Set("arch", p.Arch)
		}
		if distro != "" && version != "" {
			query.Set("distro", distro+"-"+version)
		}
	}
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = strings.NewReplacer("@", "%40", "+", "%2B").Replace(url.PathEscape(part))
	}
	out := "pkg:" + p.Kind + "/" + strings.Join(parts, "/")
	if p.Version != "" {
		out += "@" + strings.NewReplacer("+", "%2B", "@", "%40").Replace(url.PathEscape(p.Version))
	}
	if len(query) > 0 {
		out += "?" + query.Encode()
	}
	return out
}
