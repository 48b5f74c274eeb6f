package conformance

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// unbase64 decodes a file in place.
func unbase64(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// pack makes a tar of a folder, and removes the folder.
func pack(path, compression, folder string) error {
	if err := settle(folder); err != nil {
		return err
	}
	var out bytes.Buffer
	if err := packTo(&out, compression, folder); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(folder), writeFile(path, out.Bytes()))
}

func packTo(out io.Writer, compression, folder string) error {
	switch compression {
	case "none":
		return tarOf(out, folder)
	case "gz":
		zip := gzip.NewWriter(out)
		return errors.Join(tarOf(zip, folder), zip.Close())
	default:
		return fmt.Errorf("no compression %q", compression)
	}
}

func tarOf(out io.Writer, folder string) error {
	w := tar.NewWriter(out)
	err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == folder {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		target, _ := os.Readlink(path)
		header, err := tar.FileInfoHeader(info, target)
		if err != nil {
			return err
		}
		if header.Name, err = filepath.Rel(folder, path); err != nil {
			return err
		}
		header.Uname, header.Gname = "", ""
		if err = w.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	return errors.Join(err, w.Close())
}
