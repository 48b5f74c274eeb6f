package rehearse

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func noContext() context.Context { return context.Background() }

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// commands are what Dockerfiles may run that are rehearsed offline.
func commands() []string {
	return []string{"sh", "cat", "chmod", "cp", "date", "id", "ls", "mkdir", "mv", "rm", "sed", "sort", "uname", "wc"}
}

// baseContent is the base image's layer.
func baseContent() ([]byte, error) {
	files := map[string]string{} // path in the image -> file on this machine
	for _, command := range commands() {
		path, err := exec.LookPath(command)
		if err != nil {
			return nil, err
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, fmt.Errorf("command %s: %w", command, err)
		}
		files["bin/"+command] = path
		if err := libraries(path, files); err != nil {
			return nil, err
		}
	}
	return baseLayer(files)
}

func baseImage(content []byte, architecture string) (v1.Image, error) {
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	config.Config.Env = []string{"PATH=/usr/local/bin:/bin"}
	config.Config.Cmd = []string{"/bin/sh"}
	config.History = []v1.History{{CreatedBy: "towline rehearse: this machine's shell", Created: v1.Time{Time: time.Unix(0, 0).UTC()}}}
	return mutate.ConfigFile(image, config)
}

// libraries adds the loader and the shared libraries of an ELF file.
func libraries(path string, files map[string]string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close() //nolint:errcheck // read only
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		raw, readErr := io.ReadAll(p.Open())
		if readErr != nil {
			return fmt.Errorf("%s: %w", path, readErr)
		}
		loader := strings.TrimRight(string(raw), "\x00")
		files[strings.TrimPrefix(loader, "/")] = loader
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, library := range needed {
		if err := addLibrary(library, files); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func addLibrary(library string, files map[string]string) error {
	for _, dir := range libraryFolders() {
		path := filepath.Join(dir, library)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		// The loader looks in /lib and /usr/lib whatever else is configured.
		inside := "usr/lib/" + library
		if _, ok := files[inside]; ok {
			return nil
		}
		files[inside] = path
		return libraries(path, files)
	}
	return fmt.Errorf("library %s is not in %s", library, strings.Join(libraryFolders(), ", "))
}

// libraryFolders are where distributions keep shared libraries.
func libraryFolders() []string {
	folders := []string{"/lib64", "/usr/lib64", "/lib", "/usr/lib"}
	for _, pattern := range []string{"/lib/*-linux-gnu*", "/usr/lib/*-linux-gnu*"} {
		found, _ := filepath.Glob(pattern) // the pattern is right
		folders = append(folders, found...)
	}
	return folders
}

// baseLayer packs the files, and the few that a root filesystem is expected to have.
func baseLayer(files map[string]string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, dir := range []string{"bin", "etc", "root", "tmp", "usr", "usr/lib", "usr/local", "usr/local/bin", "var"} {
		mode := int64(0o755)
		if dir == "tmp" {
			mode = 0o1777
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: mode, ModTime: time.Unix(0, 0)}); err != nil {
			return nil, err
		}
	}
	text := map[string]string{ //nolint:gosec // there is no password in it
		"etc/passwd":     "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/srv:/bin/sh\n",
		"etc/group":      "root:x:0:\napp:x:1000:\n",
		"etc/os-release": "NAME=\"Towline rehearsal\"\nID=rehearsal\n",
	}
	names := slices.AppendSeq(slices.Collect(maps.Keys(files)), maps.Keys(text))
	slices.Sort(names)
	for _, name := range names {
		mode, content := int64(0o644), []byte(text[name])
		if file, ok := files[name]; ok {
			var err error
			if content, err = os.ReadFile(file); err != nil { //nolint:gosec // this machine's own commands
				return nil, err
			}
			mode = 0o755
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), ModTime: time.Unix(0, 0)}); err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), errors.Join(w.Close())
}
