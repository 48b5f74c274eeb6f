package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"

	continuity "github.com/containerd/continuity/fs"
)

// copyTree copies a folder or a regular file with all its attributes.
func copyTree(to, from string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		if err := continuity.CopyDir(to, from, continuity.WithAllowXAttrErrors()); err != nil {
			return fmt.Errorf("copy %s: %w", from, err)
		}
		return nil
	case info.Mode().IsRegular():
		return copyFile(to, from)
	default:
		return fmt.Errorf("copy %s: neither a folder nor a regular file", from)
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from) //nolint:gosec // a mount that the build asked for
	if err != nil {
		return err
	}
	defer in.Close()                                                      //nolint:errcheck // read only
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // its place was found without links
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	attrs, err := readAttributes(from)
	if err != nil {
		return err
	}
	return attrs.apply(to)
}
