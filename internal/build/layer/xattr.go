package layer

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrs are extended attributes by name.
type xattrs map[string]string

// xattrSource reads the extended attributes of one file.
type xattrSource struct {
	list func(dest []byte) (int, error)
	get  func(name string, dest []byte) (int, error)
}

func xattrsOfFD(fd int) xattrSource {
	return xattrSource{
		list: func(dest []byte) (int, error) { return unix.Flistxattr(fd, dest) },
		get:  func(name string, dest []byte) (int, error) { return unix.Fgetxattr(fd, name, dest) },
	}
}

func xattrsOfPath(path string) xattrSource {
	return xattrSource{
		list: func(dest []byte) (int, error) { return unix.Llistxattr(path, dest) },
		get:  func(name string, dest []byte) (int, error) { return unix.Lgetxattr(path, name, dest) },
	}
}

// carried reads those attributes that a layer carries; nil when there are none.
func (s xattrSource) carried() (xattrs, error) {
	names, err := grow(s.list)
	if len(names) == 0 || err != nil {
		return nil, err
	}
	var all xattrs
	for name := range strings.SplitSeq(strings.TrimSuffix(names, "\x00"), "\x00") {
		if !carried(name) {
			continue
		}
		value, err := grow(func(dest []byte) (int, error) { return s.get(name, dest) })
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = xattrs{}
		}
		all[name] = value
	}
	return all, nil
}

// grow calls read with ever larger buffers. A filesystem without extended
// attributes reads as empty.
func grow(read func(dest []byte) (int, error)) (string, error) {
	var small [128]byte
	buf := small[:]
	for {
		n, err := read(buf)
		switch {
		case err == nil:
			return string(buf[:n]), nil
		case errors.Is(err, unix.ENOTSUP):
			return "", nil
		case errors.Is(err, unix.ERANGE) && len(buf) < 1<<20:
			buf = make([]byte, 8*len(buf))
		default:
			return "", err
		}
	}
}

// key gives equal strings for equal attributes.
func (x xattrs) key() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(x)) {
		b.WriteString(name)
		b.WriteByte(0)
		b.WriteString(strconv.Itoa(len(x[name])))
		b.WriteByte(0)
		b.WriteString(x[name])
	}
	return b.String()
}

// untaken reports whether err says that the filesystem or missing privileges
// do not let an attribute be set, rather than that something went wrong.
func untaken(err error) bool {
	return errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}
