// Package imagetest makes images for tests, describes them and compares them,
// whoever built them.
package imagetest

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Entry is a file in a test's layer: what its tar header says and its content.
type Entry struct {
	tar.Header
	Body string
}

// Past is the modification time of all entries: long before any test runs.
func Past() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// File is a regular file, mode 0644.
func File(name, body string) Entry {
	return Entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, ModTime: Past()}, body}
}

// Folder is a folder, mode 0755.
func Folder(name string) Entry {
	return Entry{Header: tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: Past()}}
}

// Link is a hard link to an entry of the same layer.
func Link(name, target string) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, ModTime: Past()}}
}

// Symlink is a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777, ModTime: Past()}}
}

// With changes one thing of an entry's header.
func (e Entry) With(change func(*tar.Header)) Entry {
	change(&e.Header)
	return e
}

// Mode gives an entry other permissions: the 12 bits of chmod(2).
func (e Entry) Mode(bits int64) Entry {
	e.Header.Mode = bits
	return e
}

// WriteTar writes entries as one tar.
func WriteTar(w io.Writer, entries []Entry) error {
	tw := tar.NewWriter(w)
	for _, e := range entries {
		e.Size = int64(len(e.Body))
		if err := tw.WriteHeader(&e.Header); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
		if _, err := io.WriteString(tw, e.Body); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	return tw.Close()
}

// ReadTar adds the content of the regular files below a prefix to files.
func ReadTar(r io.Reader, prefix string, files map[string]string) error {
	tr := tar.NewReader(r)
	for {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg || !strings.HasPrefix(header.Name, prefix) {
			continue
		}
		text, err := io.ReadAll(tr)
		if err != nil {
			return err
		}
		files[header.Name] = string(text)
	}
}
