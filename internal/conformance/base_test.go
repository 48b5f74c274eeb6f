package conformance

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/towline/towline/internal/imagetest"
)

const (
	pathEnv = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// refName is the annotation by which a layout names its images.
	refName = "org.opencontainers.image.ref.name"
	// indexName is the base that is an index of two platforms.
	indexName = "multi"
)

// applets are all that a case may call.
const applets = "ash awk basename cat chgrp chmod chown cp cut dd dirname echo env expr false find grep gunzip gzip head hostname id ln ls md5sum mkdir " +
	"mkfifo mknod mktemp mount mv nslookup printenv printf ps pwd readlink realpath rm rmdir sed seq sh sha256sum sleep sort stat sync tail tar tee test " +
	"touch tr true truncate umount uname unlink usleep vi wc wget which whoami xargs"

// bases are the base images, made of this machine's busybox and of our tool.
type bases struct {
	names  []string
	images map[string]v1.Image
	// index holds an image for another platform too.
	index v1.ImageIndex
	// contents names what differs between machines, for a Describer.
	contents map[string]string
}

// baseImage is one base: its layers and its config.
type baseImage struct {
	layers [][]imagetest.Entry
	config v1.Config
}

func makeBases(ctx context.Context) (*bases, error) {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, fmt.Errorf("base images want a static busybox (package busybox-static): %w", err)
	}
	tool, err := buildTool(ctx, runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	b := &bases{images: map[string]v1.Image{}, contents: map[string]string{}}
	for name, content := range map[string][]byte{"busybox": busybox, "tool": tool} {
		sum := sha256.Sum256(content)
		b.contents[hex.EncodeToString(sum[:])] = name
	}
	for name, base := range baseImages(programs(string(busybox), string(tool))) {
		if b.images[name], err = base.image(runtime.GOARCH); err != nil {
			return nil, fmt.Errorf("base %s: %w", name, err)
		}
		b.names = append(b.names, name)
	}
	slices.Sort(b.names)
	b.index = empty.Index
	for _, arch := range []string{"amd64", "arm64"} {
		program, err := buildTool(ctx, arch)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(program)
		b.contents[hex.EncodeToString(sum[:])] = "tool"
		base := baseImage{
			layers: [][]imagetest.Entry{{imagetest.File("arch", arch+"\n"), imagetest.File("tool", string(program)).Mode(0o755)}},
			config: v1.Config{Env: []string{"ARCH=" + arch}},
		}
		img, err := base.image(arch)
		if err != nil {
			return nil, err
		}
		b.index = mutate.AppendManifests(b.index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return b, nil
}

func buildTool(ctx context.Context, arch string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "tool")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "tool")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "./testdata/tool")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build tool: %w\n%s", err, out)
	}
	return os.ReadFile(file)
}

// programs is /bin: busybox, links to it, and the tool.
func programs(busybox, tool string) []imagetest.Entry {
	entries := []imagetest.Entry{
		imagetest.Folder("bin"),
		imagetest.File("bin/busybox", busybox).Mode(0o755),
		imagetest.File("bin/tool", tool).Mode(0o755),
	}
	for applet := range strings.FieldsSeq(applets) {
		entries = append(entries, imagetest.Symlink("bin/"+applet, "busybox"))
	}
	return entries
}

const passwd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
app:x:1000:1000:app:/home/app:/bin/sh
alice:x:1001:100:alice:/home/alice:/bin/sh
homeless:x:1002:1002:homeless:/nowhere:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
`

const group = `root:x:0:
daemon:x:1:
wheel:x:10:alice,app
users:x:100:
docker:x:998:alice
app:x:1000:
homeless:x:1002:
nogroup:x:65534:
`

func system() []imagetest.Entry {
	own := func(e imagetest.Entry, uid, gid int) imagetest.Entry {
		return e.With(func(h *tar.Header) { h.Uid, h.Gid = uid, gid })
	}
	return []imagetest.Entry{
		imagetest.Folder("dev"), imagetest.Folder("etc"), imagetest.File("etc/passwd", passwd), imagetest.File("etc/group", group),
		imagetest.File("etc/hosts", ""), imagetest.File("etc/resolv.conf", ""),
		imagetest.Folder("home"), own(imagetest.Folder("home/app"), 1000, 1000), own(imagetest.Folder("home/alice").Mode(0o700), 1001, 100),
		imagetest.Folder("proc"), imagetest.Folder("root").Mode(0o700), imagetest.Folder("run"), imagetest.Folder("sys"),
		imagetest.Folder("tmp").Mode(0o1777), imagetest.Folder("usr"), imagetest.Folder("usr/bin"), imagetest.Folder("usr/local"),
		imagetest.Folder("usr/local/bin"), imagetest.Folder("var"), imagetest.Folder("var/tmp").Mode(0o1777),
		imagetest.Symlink("var/run", "/run"), imagetest.Symlink("var/lock", "../run/lock"),
	}
}

func baseImages(programs []imagetest.Entry) map[string]baseImage {
	whole := slices.Concat(programs, system())
	interval := 30 * time.Second
	return map[string]baseImage{
		"base": {[][]imagetest.Entry{whole}, v1.Config{Env: []string{pathEnv}, Cmd: []string{"sh"}}},
		"bare": {[][]imagetest.Entry{programs}, v1.Config{}},
		"odd":  {[][]imagetest.Entry{slices.Concat(whole, oddLower()), oddUpper()}, v1.Config{Env: []string{pathEnv}}},
		"onbuild": {[][]imagetest.Entry{whole}, v1.Config{Env: []string{pathEnv}, OnBuild: []string{
			"ENV TRIGGERED=yes", "COPY trigger.txt /triggered/", "RUN echo $TRIGGERED >/triggered/run",
		}}},
		"rich": {[][]imagetest.Entry{whole}, v1.Config{
			Env: []string{pathEnv, "FROM_BASE=1", "EMPTY="}, User: "app", WorkingDir: "/srv", Entrypoint: []string{"/bin/sh", "-c"}, Cmd: []string{"echo base"},
			Labels: map[string]string{"base": "yes", "both": "base"}, Volumes: map[string]struct{}{"/data": {}},
			ExposedPorts: map[string]struct{}{"80/tcp": {}}, StopSignal: "SIGQUIT", Shell: []string{"/bin/sh", "-ec"},
			Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "true"}, Interval: interval},
		}},
		"empty": {nil, v1.Config{Env: []string{"ONLY=config"}}},
	}
}

func oddLower() []imagetest.Entry {
	long := strings.Repeat("d", 120)
	return []imagetest.Entry{
		imagetest.Folder("opt"), imagetest.File("opt/removed", "a later layer removes this\n"),
		imagetest.Folder("opt/opaque"), imagetest.File("opt/opaque/hidden", "hidden\n"), imagetest.Folder("opt/opaque/folder"),
		imagetest.File("opt/opaque/folder/hidden", "hidden\n"),
		imagetest.Folder("opt/becomes-file"), imagetest.File("opt/becomes-file/inside", "x\n"),
		imagetest.File("opt/becomes-folder", "x\n"), imagetest.File("opt/linked", "linked\n"), imagetest.Link("opt/linked-too", "opt/linked").Mode(0o644),
		imagetest.Folder("opt/" + long), imagetest.File("opt/"+long+"/"+strings.Repeat("f", 200), "long\n"),
	}
}

func oddUpper() []imagetest.Entry {
	device := imagetest.File("opt/null", "").With(func(h *tar.Header) { h.Typeflag, h.Devmajor, h.Devminor, h.Mode = tar.TypeChar, 1, 3, 0o666 })
	fifo := imagetest.File("opt/fifo", "").With(func(h *tar.Header) { h.Typeflag, h.Mode = tar.TypeFifo, 0o600 })
	attrs := imagetest.File("opt/attrs", "attrs\n").With(func(h *tar.Header) {
		h.PAXRecords = map[string]string{
			"SCHILY.xattr.user.color":          "blue",
			"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04" + strings.Repeat("\x00", 14),
		}
	})
	nano := imagetest.File("opt/nano", "nano\n").With(func(h *tar.Header) {
		h.ModTime, h.Format = time.Unix(1_500_000_000, 987_654_321), tar.FormatPAX
	})
	return []imagetest.Entry{
		imagetest.Folder("opt"), imagetest.File("opt/.wh.removed", ""),
		imagetest.Folder("opt/opaque"), imagetest.File("opt/opaque/.wh..wh..opq", ""), imagetest.File("opt/opaque/shown", "shown\n"),
		imagetest.File("opt/becomes-file", "file\n"), imagetest.Folder("opt/becomes-folder"), imagetest.File("opt/becomes-folder/inside", "x\n"),
		device, fifo, attrs, nano,
		imagetest.File("opt/setuid", "x\n").Mode(0o4755), imagetest.File("opt/setgid", "x\n").Mode(0o2755), imagetest.Folder("opt/sticky").Mode(0o1777),
		imagetest.File("opt/owned", "x\n").With(func(h *tar.Header) { h.Uid, h.Gid = 1234, 4321 }),
		imagetest.File("opt/\xff\xfe", "raw\n").With(func(h *tar.Header) { h.Format = tar.FormatGNU }),
		imagetest.Symlink("opt/dangling", "/nowhere/at/all"), imagetest.Symlink("opt/absolute", "/opt/opaque"), imagetest.Symlink("opt/loop", "loop"),
		imagetest.File("etc/hosts", "10.0.0.1 of-the-image\n"), imagetest.File("etc/resolv.conf", "nameserver 10.0.0.2\n"),
	}
}

func (b baseImage) image(arch string) (v1.Image, error) {
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	for i, entries := range b.layers {
		var buf bytes.Buffer
		if err := imagetest.WriteTar(&buf, entries); err != nil {
			return nil, err
		}
		var err error
		img, err = mutate.Append(img, mutate.Addendum{
			Layer:   static.NewLayer(buf.Bytes(), types.OCIUncompressedLayer),
			History: v1.History{Created: v1.Time{Time: imagetest.Past()}, CreatedBy: fmt.Sprintf("base layer %d", i)},
		})
		if err != nil {
			return nil, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created, config.Config = "linux", arch, v1.Time{Time: imagetest.Past()}, b.config
	return mutate.ConfigFile(img, config)
}

// save writes the bases as an OCI layout.
func (b *bases) save(dir string) error {
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	for _, name := range b.names {
		err = errors.Join(err, path.AppendImage(b.images[name], layout.WithAnnotations(map[string]string{refName: name})))
	}
	return errors.Join(err, path.AppendIndex(b.index, layout.WithAnnotations(map[string]string{refName: indexName})))
}

// library finds images in a layout, under the names that a Dockerfile gives them.
type library struct{ index v1.ImageIndex }

// Resolve gives the image of a name and a platform.
func (l library) Resolve(_ context.Context, ref string, platform v1.Platform) (v1.Hash, v1.Image, error) {
	name := strings.TrimPrefix(strings.TrimPrefix(ref, "docker.io/"), "library/")
	name, _, _ = strings.Cut(name, "@")
	name = strings.TrimSuffix(name, ":latest")
	manifest, err := l.index.IndexManifest()
	if err != nil {
		return v1.Hash{}, nil, err
	}
	for _, d := range manifest.Manifests {
		if d.Annotations[refName] != name {
			continue
		}
		if !d.MediaType.IsIndex() {
			img, err := l.index.Image(d.Digest)
			return d.Digest, img, err
		}
		index, err := l.index.ImageIndex(d.Digest)
		if err != nil {
			return v1.Hash{}, nil, err
		}
		inner, err := index.IndexManifest()
		if err != nil {
			return v1.Hash{}, nil, err
		}
		for _, m := range inner.Manifests {
			if m.Platform != nil && m.Platform.Architecture == platform.Architecture {
				img, err := index.Image(m.Digest)
				return d.Digest, img, err
			}
		}
	}
	return v1.Hash{}, nil, fmt.Errorf("%s: not found", ref)
}
