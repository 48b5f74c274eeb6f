package bases

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/towline/towline/internal/imagetest"
)

// plain is a base image that stands on no other, under the name that a user's
// Dockerfile gives it.
type plain struct {
	// Name is repository:tag on Docker Hub.
	Name string
	// Also is a second name for the same image.
	Also string `json:"-"`
	// Packages are Debian's (or Ubuntu's, where the machine runs that), laid over the
	// smallest system that apt runs in. Without any the base is busybox alone.
	Packages []string
	// Trust takes over which certificates the machine trusts, and its settings for
	// Maven, so that a build can fetch what the machine can fetch.
	Trust  bool
	Config v1.Config
	// Recipe tells one way of making bases from the next.
	Recipe int
}

func plains() []plain {
	path := "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	return []plain{
		{
			Name:   "library/busybox:1",
			Also:   "library/rehearsal-base:latest", // the demo's, with the user that it wants
			Config: v1.Config{Env: []string{path}, Cmd: []string{"sh"}},
			Recipe: 5,
		},
		{
			Name:     "library/maven:3-eclipse-temurin-17",
			Packages: []string{"ca-certificates", "maven", "openjdk-17-jdk-headless"},
			Trust:    true,
			Config:   v1.Config{Env: []string{path, "LANG=C.UTF-8"}, Cmd: []string{"mvn"}},
			Recipe:   1,
		},
		{
			Name:     "library/eclipse-temurin:17-jre",
			Packages: []string{"ca-certificates", "openjdk-17-jre-headless"},
			Config:   v1.Config{Env: []string{path, "LANG=C.UTF-8"}, Cmd: []string{"java"}},
			Recipe:   1,
		},
	}
}

// load gives the base from the cache, and makes it before when it is not there.
func (b plain) load(ctx context.Context, cache string) (v1.Image, error) {
	recipe, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, fmt.Sprintf("%x", sha256.Sum256(recipe))[:16])
	if _, err = os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err = b.make(ctx, cache, dir); err != nil {
			return nil, err
		}
	}
	return onlyImage(dir)
}

// make writes the base as an OCI layout into dir, which is there only once it is whole.
func (b plain) make(ctx context.Context, cache, dir string) error {
	work, err := os.MkdirTemp(cache, "making-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	layers := busyboxLayers
	if len(b.Packages) > 0 {
		layers = b.debianLayers
	}
	tars, err := layers(ctx, work)
	if err != nil {
		return err
	}
	img, err := assemble(b.Config, tars)
	if err != nil {
		return err
	}
	path, err := layout.Write(filepath.Join(work, "layout"), empty.Index)
	if err != nil {
		return err
	}
	if err := path.AppendImage(img); err != nil {
		return err
	}
	return os.Rename(filepath.Join(work, "layout"), dir)
}

func assemble(config v1.Config, tars []string) (v1.Image, error) {
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, Config: config,
		RootFS: v1.RootFS{Type: "layers"}, Created: v1.Time{Time: imagetest.Past()},
	})
	if err != nil {
		return nil, err
	}
	for i, file := range tars {
		layer, err := tarball.LayerFromFile(file, tarball.WithCompressionLevel(gzip.BestSpeed))
		if err != nil {
			return nil, err
		}
		img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{
			Created: v1.Time{Time: imagetest.Past()}, CreatedBy: fmt.Sprintf("base layer %d", i),
		}})
		if err != nil {
			return nil, err
		}
	}
	return img, nil
}

// debianLayers bootstraps a system from the machine's own package sources.
func (b plain) debianLayers(ctx context.Context, work string) ([]string, error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return nil, err
	}
	codename := regexp.MustCompile(`(?m)^VERSION_CODENAME=(\w+)$`).FindSubmatch(release)
	if codename == nil {
		return nil, errors.New("/etc/os-release names no VERSION_CODENAME: base images need Debian or Ubuntu")
	}
	sources, err := aptSources(string(codename[1]))
	if err != nil {
		return nil, err
	}
	options, err := aptOptions(ctx, work)
	if err != nil {
		return nil, err
	}
	out := filepath.Join(work, "root.tar")
	args := []string{
		"--quiet", "--variant=minbase", "--aptopt=" + options, "--include=" + strings.Join(b.Packages, ","),
		"--skip=output/dev", // Images of distributions hold no device files.
	}
	if b.Trust {
		args = append(args, trustHooks()...)
	}
	args = append(args, string(codename[1]), out)
	if _, err := command(ctx, "mmdebstrap", append(args, sources...)...); err != nil {
		return nil, err
	}
	return []string{out}, nil
}

// aptSources finds the machine's own package sources for its release: third
// parties' are left out.
func aptSources(codename string) ([]string, error) {
	files := []string{"/etc/apt/sources.list"}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join("/etc/apt/sources.list.d", pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	suite := regexp.MustCompile(`(?m)^(deb .*|Suites:.*)\s` + codename + `(\s|$)`)
	files = slices.DeleteFunc(files, func(file string) bool {
		text, err := os.ReadFile(file) //nolint:gosec // in /etc/apt
		return err != nil || !suite.Match(text)
	})
	if len(files) == 0 {
		return nil, fmt.Errorf("no package source for %s in /etc/apt", codename)
	}
	return files, nil
}

// aptOptions copies how the machine's apt reaches its sources: proxies, retries.
func aptOptions(ctx context.Context, work string) (string, error) {
	dump, err := command(ctx, "apt-config", "dump", "Acquire")
	if err != nil {
		return "", err
	}
	var kept strings.Builder
	for line := range strings.Lines(dump) {
		for _, prefix := range []string{"Acquire::http", "Acquire::Retries"} {
			if strings.HasPrefix(line, prefix) {
				kept.WriteString(line)
			}
		}
	}
	file := filepath.Join(work, "apt.conf")
	return file, os.WriteFile(file, []byte(kept.String()), 0o644) //nolint:gosec // no secrets
}

// trustHooks bring the machine's own certificate authorities into the system
// and its JVM, and the machine's settings for Maven to where no cache mount
// over ~/.m2 hides them.
func trustHooks() []string {
	var hooks []string
	const own = "/usr/local/share/ca-certificates"
	if found, err := os.ReadDir(own); err == nil && len(found) > 0 {
		hooks = append(hooks,
			"--customize-hook=copy-in "+own+" "+filepath.Dir(own),
			`--customize-hook=chroot "$1" update-ca-certificates`)
	}
	if home, err := os.UserHomeDir(); err == nil {
		settings := filepath.Join(home, ".m2", "settings.xml")
		if _, err := os.Stat(settings); err == nil {
			hooks = append(hooks, "--customize-hook=copy-in "+settings+" /etc/maven")
		}
	}
	return hooks
}

// busyboxLayers lays out the machine's static busybox as the well-known image
// does, its commands hard links, and puts a second layer over it that removes a
// file, empties a folder, and holds what is easily lost: a file capability,
// a set-user-ID bit, owners, a name that is not ASCII, old and odd times.
func busyboxLayers(ctx context.Context, work string) ([]string, error) {
	program, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("%w (package busybox-static)", err)
	}
	binary, err := os.ReadFile(program) //nolint:gosec // what PATH finds
	if err != nil {
		return nil, err
	}
	list, err := command(ctx, program, "--list")
	if err != nil {
		return nil, err
	}
	lower := []imagetest.Entry{imagetest.Folder("bin"), executable("bin/busybox", string(binary))}
	for applet := range strings.FieldsSeq(list) {
		if applet != "busybox" {
			// Who unpacks a layer gives the file the mode of its last link.
			lower = append(lower, imagetest.Link("bin/"+applet, "bin/busybox").Mode(0o755))
		}
	}
	lower = append(lower,
		imagetest.Folder("dev"), imagetest.Folder("etc"), imagetest.Folder("home"), imagetest.Folder("proc"), imagetest.Folder("root"), imagetest.Folder("sys"), imagetest.Folder("usr"),
		imagetest.Folder("usr/share"), imagetest.Folder("var"), imagetest.Folder("var/old"),
		imagetest.File("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:10001:10001:app:/srv:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n"),
		imagetest.File("etc/group", "root:x:0:\napp:x:10001:\nnogroup:x:65534:\n"),
		// Every container gets these two from its engine: the image's own must stay.
		imagetest.File("etc/hosts", "192.0.2.1 base.example\n"),
		imagetest.File("etc/resolv.conf", "nameserver 192.0.2.1\n"),
		imagetest.File("etc/removed", "a later layer removes this\n"),
		imagetest.File("var/old/removed", "a later layer hides this\n"),
		imagetest.Folder("tmp").Mode(0o1777), imagetest.Folder("var/tmp").Mode(0o1777))
	capability := executable("usr/share/capable", "#!/bin/sh\n").With(func(h *tar.Header) {
		// CAP_NET_BIND_SERVICE, permitted and effective, in the kernel's form, revision 2.
		h.PAXRecords = map[string]string{
			"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04" + strings.Repeat("\x00", 14),
		}
	})
	upper := []imagetest.Entry{
		imagetest.Folder("etc"), imagetest.File("etc/.wh.removed", ""),
		imagetest.Folder("var"), imagetest.Folder("var/old"), imagetest.File("var/old/.wh..wh..opq", ""), imagetest.File("var/old/kept", "kept\n"),
		imagetest.Folder("usr"), imagetest.Folder("usr/share"), capability, imagetest.File("usr/share/setuid", "x").Mode(0o4755),
		imagetest.File("usr/share/owned", "x").With(func(h *tar.Header) { h.Uid, h.Gid = 1000, 2000 }),
		imagetest.File("usr/share/ancient", "x").With(func(h *tar.Header) { h.ModTime = time.Unix(1, 0) }),
		imagetest.File("usr/share/Größe", "x"), imagetest.Symlink("usr/share/dangling", "../nowhere"),
	}
	return writeLayers(work, lower, upper)
}

func writeLayers(work string, layers ...[]imagetest.Entry) ([]string, error) {
	var files []string
	for i, entries := range layers {
		var buf bytes.Buffer
		if err := imagetest.WriteTar(&buf, entries); err != nil {
			return nil, err
		}
		file := filepath.Join(work, fmt.Sprintf("layer%d.tar", i))
		if err := os.WriteFile(file, buf.Bytes(), 0o600); err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

func executable(name, body string) imagetest.Entry { return imagetest.File(name, body).Mode(0o755) }
