package layer

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// ApplyOptions says how a layer is unpacked. The zero value unpacks everything
// upon the layers below.
type ApplyOptions struct {
	// Outline makes the tree without the files' content: regular files are made
	// empty, with their mode, owner, times, extended attributes and hard links,
	// but for those that Keep says true for.
	Outline bool
	// Keep is asked with Outline, by the path in the tar: relative and
	// slash-separated. Nil keeps none. A hard link's content comes with the name
	// that the tar has it under: see ApplyResult.Hollow.
	Keep func(path string) bool
	// Overlay makes the folder a layer of its own for overlayfs, with its
	// whiteouts: character device 0/0 and the attribute trusted.overlay.opaque.
	Overlay bool
	// UserXattr makes Overlay write user.overlay.opaque, for mounts with userxattr.
	UserXattr bool
	// Lower lists, topmost first, the folders of the layers below for Overlay: a
	// folder that the tar implies without an entry takes its mode, owner, times
	// and extended attributes from there.
	Lower []string
	// IgnoreOwner leaves every file to the caller, for user namespaces that map a
	// single ID. Devices are left out where they cannot be made.
	IgnoreOwner bool
}

// ApplyResult says what a layer held.
type ApplyResult struct {
	// Files counts the entries that were unpacked.
	Files int
	// Bytes counts the content that was written.
	Bytes int64
	// Hollow lists the names in the tar whose content Outline left out although
	// Keep wanted one of their hard links.
	Hollow []string
	// Lost lists, as "path: name", extended attributes that the filesystem or
	// missing privileges did not take; at most 20.
	Lost []string
}

// maxLost bounds ApplyResult.Lost.
const maxLost = 20

// maxNamed bounds the memory for the names in a layer, in bytes. A million files
// with names of 100 bytes take a sixth of it.
const maxNamed = 1 << 30

// Apply unpacks the uncompressed layer tar upon the folder root, which holds
// the layers below. It never touches anything outside root, whatever the tar's
// names and links say: links are resolved as if root were "/". The reader is
// read to its end. A name that leads out of root is an error.
//
// As with containerd, an entry for the root itself is ignored, and a folder
// that a tar implies without an entry is made with mode 0755. Folders that only
// have something put into them keep their times. Long runs of zeroes become holes.
//
// A file that is larger than what the disk has left is an error before anything of
// it is written, and so are more names than memory should be filled with.
func Apply(ctx context.Context, root string, r io.Reader, opts ApplyOptions) (ApplyResult, error) {
	a, err := newApplier(root, opts)
	if err != nil {
		return ApplyResult{}, fmt.Errorf("layer: %w", err)
	}
	defer a.close()
	r = bufio.NewReaderSize(r, 256<<10) // A header is read in pieces of 512 bytes.
	tr := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return a.res, fmt.Errorf("layer: %w", context.Cause(ctx))
		}
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return a.res, fmt.Errorf("layer tar: %w", err)
		}
		a.tree.rest()
		if err := a.entry(ctx, hdr, tr); err != nil {
			return a.res, fmt.Errorf("layer entry %q: %w", hdr.Name, Full(err, root))
		}
	}
	if err := a.drain(ctx, r); err != nil {
		return a.res, fmt.Errorf("layer tar: %w", err)
	}
	return a.res, Full(a.finish(), root)
}

// drain reads what follows the tar's end, so that a digest of the stream is right.
func (a *applier) drain(ctx context.Context, r io.Reader) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := r.Read(a.buf); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// cleanName gives an entry's or a link's name as a clean path relative to the
// root, "" for the root itself. A leading slash means the root, as everywhere.
func cleanName(name string) (string, error) {
	if len(name) > maxPath {
		return "", fmt.Errorf("name of %d bytes: longer than %d", len(name), maxPath)
	}
	clean := path.Clean(strings.TrimLeft(name, "/"))
	switch {
	case clean == "..", strings.HasPrefix(clean, "../"):
		return "", errors.New("name leads out of the layer")
	case clean == ".":
		return "", nil
	}
	return clean, nil
}

// reserved reports whether a path lies in one of AUFS's own folders, which hold
// nothing of the image.
func reserved(dir, base string) (bool, error) {
	if strings.HasPrefix(base, reservedPrefix) && base != opaqueName {
		return true, nil
	}
	for name := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(name, reservedPrefix) {
			return true, nil
		}
		if strings.HasPrefix(name, whiteoutPrefix) {
			return false, errors.New("whiteout used as a folder")
		}
	}
	return false, nil
}

// entry unpacks one entry.
func (a *applier) entry(ctx context.Context, hdr *tar.Header, r io.Reader) error {
	name, err := cleanName(hdr.Name)
	if err != nil || name == "" || hdr.Typeflag == tar.TypeXGlobalHeader {
		return err
	}
	dir, base := split(name)
	if skip, skipErr := reserved(dir, base); skip || skipErr != nil {
		return skipErr
	}
	a.res.Files++
	if a.named > maxNamed {
		return fmt.Errorf("the layer's names have more than %d bytes", maxNamed)
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return a.whiteout(dir, base)
	}
	for _, id := range []int{hdr.Uid, hdr.Gid} {
		if id < 0 || id >= math.MaxUint32 {
			return fmt.Errorf("owner %d: not a valid ID", id)
		}
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		return a.directory(dir, base, hdr)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return a.regular(ctx, name, hdr, r)
	case tar.TypeLink:
		return a.hardlink(name, hdr)
	case tar.TypeSymlink:
		return a.special(dir, base, hdr, func(p *folder) error {
			return unix.Symlinkat(hdr.Linkname, p.fd, base)
		})
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return a.device(dir, base, hdr)
	}
	return fmt.Errorf("unknown type %q", hdr.Typeflag)
}

// regular unpacks a regular file. The owner is set before the mode and the
// attributes, because a new owner costs a file its setuid bit and capabilities;
// the attributes before the mode, which may forbid writing.
func (a *applier) regular(ctx context.Context, name string, hdr *tar.Header, r io.Reader) error {
	dir, base := split(name)
	var fd int
	p, err := a.put(dir, base, func(p *folder) (err error) {
		fd, err = openAt(p.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // written with write(2), whose errors count
	keep := a.opts.Keep != nil && a.opts.Keep(name)
	if empty := hdr.Uname == hollowOwner; a.opts.Outline && (empty || hdr.Size > 0 && !keep) {
		if empty && keep { // for a link of it, which another layer has
			a.res.Hollow = append(a.res.Hollow, name)
		}
		if err := a.hollow(fd, name); err != nil {
			return err
		}
	} else if err := a.fill(ctx, fd, name, hdr.Size, r); err != nil {
		return err
	}
	if !a.opts.IgnoreOwner {
		if err := unix.Fchown(fd, hdr.Uid, hdr.Gid); err != nil {
			return fmt.Errorf("owner %d:%d: %w", hdr.Uid, hdr.Gid, err)
		}
	}
	if err := a.setXattrs(name, headerXattrs(hdr), func(attr string, value []byte) error {
		return unix.Fsetxattr(fd, attr, value, 0)
	}); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, modeOf(hdr)); err != nil {
		return err
	}
	return setTimes(p.fd, base, headerTimes(hdr))
}

// fill writes a file's content. Buffers of zeroes are skipped.
func (a *applier) fill(ctx context.Context, fd int, name string, size int64, r io.Reader) error {
	if err := a.room.Take("/"+name, size); err != nil {
		return err
	}
	hole := false
	for at := int64(0); at < size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(r, a.buf[:min(size-at, int64(len(a.buf)))])
		if err != nil {
			return fmt.Errorf("content ends after %d of %d bytes: %w", at+int64(n), size, err)
		}
		if hole = n == len(a.buf) && bytes.Equal(a.buf, a.zeroes); !hole {
			if err := writeAt(fd, a.buf[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		a.res.Bytes += int64(n)
	}
	if hole {
		return unix.Ftruncate(fd, size)
	}
	return nil
}

func writeAt(fd int, chunk []byte, at int64) error {
	for len(chunk) > 0 {
		n, err := unix.Pwrite(fd, chunk, at)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		chunk, at = chunk[max(n, 0):], at+int64(max(n, 0))
	}
	return nil
}

// hollow remembers a file whose content is left out, for its hard links.
func (a *applier) hollow(fd int, name string) error {
	if a.opts.Keep == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	a.hollows[st.Ino] = name
	return nil
}

// hardlink links a name to a file that is there already. The file has all its
// attributes; the entry only repeats them.
func (a *applier) hardlink(name string, hdr *tar.Header) error {
	target, err := cleanName(hdr.Linkname)
	if err == nil && target == "" {
		err = errors.New("the root")
	}
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", hdr.Linkname, err)
	}
	dir, base := split(name)
	targetDir, targetBase := split(target)
	from, err := a.tree.find(targetDir, false)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", hdr.Linkname, err)
	}
	st, err := statAt(from.fd, targetBase)
	if err == nil && isType(st.Mode, unix.S_IFDIR) {
		err = unix.EISDIR
	}
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", hdr.Linkname, err)
	}
	if to, toErr := a.tree.find(dir, true); toErr != nil || to.join(base) == from.join(targetBase) {
		return toErr
	}
	source := from.path
	_, err = a.put(dir, base, func(p *folder) error {
		from, fromErr := a.tree.find(source, false) // Anew: put may have closed it.
		if fromErr != nil {
			return fromErr
		}
		return unix.Linkat(from.fd, targetBase, p.fd, base, 0)
	})
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", hdr.Linkname, err)
	}
	if kept, ok := a.hollows[st.Ino]; ok && a.opts.Keep(name) {
		a.res.Hollow = append(a.res.Hollow, kept)
		delete(a.hollows, st.Ino)
	}
	return nil
}

// device unpacks a device or a fifo.
func (a *applier) device(dir, base string, hdr *tar.Header) error {
	typ := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[hdr.Typeflag]
	var dev uint64
	if hdr.Typeflag != tar.TypeFifo {
		if hdr.Devmajor < 0 || hdr.Devmajor > math.MaxUint32 || hdr.Devminor < 0 || hdr.Devminor > math.MaxUint32 {
			return fmt.Errorf("device %d:%d: not a valid number", hdr.Devmajor, hdr.Devminor)
		}
		dev = unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor))
	}
	err := a.special(dir, base, hdr, func(p *folder) error {
		return unix.Mknodat(p.fd, base, typ|0o600, int(dev))
	})
	if a.opts.IgnoreOwner && errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

// special unpacks what cannot be opened: links, devices, fifos.
func (a *applier) special(dir, base string, hdr *tar.Header, create func(p *folder) error) error {
	p, err := a.put(dir, base, create)
	if err != nil {
		return err
	}
	if !a.opts.IgnoreOwner {
		if err := unix.Fchownat(p.fd, base, hdr.Uid, hdr.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("owner %d:%d: %w", hdr.Uid, hdr.Gid, err)
		}
	}
	if err := a.setXattrs(hdr.Name, headerXattrs(hdr), func(attr string, value []byte) error {
		return unix.Lsetxattr(procPath(p.fd, base), attr, value, 0)
	}); err != nil {
		return err
	}
	if hdr.Typeflag != tar.TypeSymlink {
		// It is no link: it was made just now.
		if err := unix.Fchmodat(p.fd, base, modeOf(hdr), 0); err != nil {
			return err
		}
	}
	return setTimes(p.fd, base, headerTimes(hdr))
}
