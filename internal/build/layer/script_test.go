package layer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// scripted changes the folder root as the bytes of script say: the same bytes do
// the same. What cannot be done is left out. Only with privileged does it need
// root's rights. It stays in root: everything goes through os.Root.
func scripted(root string, script []byte, privileged bool) error {
	r, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // no content
	s := &scriptRun{root: r, script: script, privileged: privileged}
	for len(s.script) > 0 {
		s.step()
	}
	return nil
}

type scriptRun struct {
	root       *os.Root
	script     []byte
	privileged bool
	count      int
}

func (s *scriptRun) next() int {
	if len(s.script) == 0 {
		return 0
	}
	b := s.script[0]
	s.script = s.script[1:]
	return int(b)
}

// path picks one of few names, so that they meet often.
func (s *scriptRun) path() string {
	bases := []string{"a", "b", "a.b", "a-b", "c", "\xff\x00"[:1], "ü", strings.Repeat("n", 200), " ", "\n"}
	var parts []string
	for n := s.next(); len(parts) <= n%4; {
		parts = append(parts, bases[s.next()%len(bases)])
	}
	return strings.Join(parts, "/")
}

func (s *scriptRun) time() time.Time {
	switch n := s.next(); n % 4 {
	case 0:
		return time.Unix(int64(n)*10_000_000, 0)
	case 1:
		return time.Unix(-int64(n)*10_000, int64(n)*1_000_000)
	default:
		return time.Unix(int64(n)*7_000_000, int64(n)*3_333_333)
	}
}

// step does one thing. Errors are part of the game: many things cannot be done.
func (s *scriptRun) step() {
	s.count++
	op, path := s.next(), s.path()
	switch op % 14 {
	case 0, 1:
		_ = s.root.MkdirAll(path, 0o755)
	case 2, 3:
		data := strings.Repeat(fmt.Sprintf("%d %d\n", s.count, s.next()), s.next())
		if s.plain(path) {
			_ = s.root.WriteFile(path, []byte(data), 0o644)
		}
	case 4:
		_ = s.root.RemoveAll(path)
	case 5:
		_ = s.root.Symlink(s.path(), path)
	case 6:
		_ = s.root.Link(s.path(), path)
	case 7:
		_ = s.root.Rename(s.path(), path)
	case 8:
		mode := os.FileMode(s.next()) | 0o700
		for i, bit := range []os.FileMode{os.ModeSetuid, os.ModeSetgid, os.ModeSticky} {
			if s.next()>>i&1 == 1 {
				mode |= bit
			}
		}
		_ = s.root.Chmod(path, mode)
	case 9:
		at := s.time()
		_ = s.root.Chtimes(path, at, at)
	case 10:
		s.attr(path, fmt.Sprintf("user.k%d", s.next()%3), fmt.Sprintf("\x00value %d", s.next()))
	case 11:
		s.node(path, unix.S_IFIFO|0o644, 0)
	case 12:
		if s.privileged {
			_ = s.root.Lchown(path, s.next()*1000, s.next()*1_000_000)
		}
	case 13:
		s.rooted(path)
	}
}

// rooted does what only root may.
func (s *scriptRun) rooted(path string) {
	if !s.privileged {
		return
	}
	switch n := s.next(); n % 3 {
	case 0:
		s.node(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, uint32(n))))
	case 1:
		s.node(path, unix.S_IFBLK|0o660, int(unix.Mkdev(uint32(n), 300)))
	default:
		s.attr(path, "security.capability", capability)
	}
}

// capability is cap_net_raw=ep in the kernel's form, version 2.
const capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// plain tells what may be opened: no fifo, which would block, and no device.
func (s *scriptRun) plain(path string) bool {
	info, err := s.root.Stat(path)
	return err != nil || info.Mode().IsRegular() || info.IsDir()
}

func (s *scriptRun) attr(path, name, value string) {
	if !s.plain(path) {
		return
	}
	f, err := s.root.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close() //nolint:errcheck // only read from
	_ = unix.Fsetxattr(int(f.Fd()), name, []byte(value), 0)
}

func (s *scriptRun) node(path string, mode uint32, dev int) {
	d, err := s.root.OpenFile(filepath.Dir(path), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return
	}
	defer d.Close() //nolint:errcheck // only read from
	_ = unix.Mknodat(int(d.Fd()), filepath.Base(path), mode, dev)
}
