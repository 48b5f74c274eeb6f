package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/tools/txtar"
)

// testCase is a Dockerfile with its context and what is to become of it.
//
// The comment of an archive holds directives, one a line; "#" begins a remark.
// A word in double quotes is a Go string. Paths are below the context; one
// that begins with @NAME/ is below the named context NAME.
//
//	mode PATH OCTAL, mtime PATH RFC3339, chown PATH UID GID, xattr PATH NAME VALUE
//	dir PATH, symlink PATH TARGET, hardlink PATH TARGET, fifo PATH
//	device PATH MAJOR MINOR, sparse PATH SIZE, fill PATH SIZE, write PATH TEXT
//	unbase64 PATH, pack PATH none|gz FOLDER
//	arg NAME=VALUE, label NAME=VALUE, secret ID VALUE, target STAGE
//	dockerfile PATH, context NAME, server
//	no-cache, add-host HOST=IP, ulimit NAME=SOFT:HARD, shm-size BYTES, platform OS/ARCH,...
//	layout NAME BASE: the named context NAME is a base image in an OCI layout
//	ssh ID: an agent with one key
//	main git|http|dockerfile|tar FRAGMENT: the context is a git repository, a tar on a
//	web server, the Dockerfile alone on one, or a tar file; FRAGMENT is #REF:FOLDER or empty
//	error TEXT: the build must fail with a message that holds TEXT
//	refused SANDBOX|towline TEXT: so must Towline's build, although BuildKit's does not
//	buildkit-refuses TEXT: so must BuildKit's build, although Towline's does not
//
// A file "want.towline", or "want." and a sandbox, holds what Towline makes of the
// case where that differs. Each such case is named in docs/dockerfile-support.md.
type testCase struct {
	name       string
	archive    *txtar.Archive
	directives [][]string
}

// wantFile is the file of an archive that holds BuildKit's result. One that is
// named after a sandbox holds what Towline makes of it there, if that differs.
const wantFile = "want"

// contextTime is the modification time of what is in a context.
func contextTime() time.Time { return time.Date(2024, 2, 3, 4, 5, 6, 123456789, time.UTC) }

func loadCase(file string) (*testCase, error) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		return nil, err
	}
	return newCase(strings.TrimSuffix(filepath.Base(file), ".txtar"), archive)
}

func newCase(name string, archive *txtar.Archive) (*testCase, error) {
	c := &testCase{name: name, archive: archive}
	for line := range strings.Lines(string(archive.Comment)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words, err := split(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, line, err)
		}
		c.directives = append(c.directives, words)
	}
	return c, nil
}

// split gives the words of a line; one in double quotes is a Go string.
func split(line string) ([]string, error) {
	var words []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		if !strings.HasPrefix(line, `"`) {
			word, rest, _ := strings.Cut(line, " ")
			words, line = append(words, word), rest
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, err
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		words, line = append(words, word), line[len(quoted):]
	}
	return words, nil
}

// all gives the arguments of each directive of a name.
func (c *testCase) all(name string) [][]string {
	var found [][]string
	for _, d := range c.directives {
		if d[0] == name {
			found = append(found, d[1:])
		}
	}
	return found
}

// one gives the argument of a directive, or what it is by default.
func (c *testCase) one(name, otherwise string) string {
	for _, args := range c.all(name) {
		return strings.Join(args, " ")
	}
	return otherwise
}

// file gives the content of one of the archive's files.
func (c *testCase) file(name string) (string, bool) {
	for _, f := range c.archive.Files {
		if f.Name == name {
			return string(f.Data), true
		}
	}
	return "", false
}

// wanted is what Towline is to make of the case in a sandbox.
func (c *testCase) wanted(sandbox string) (string, bool) {
	if c.refused(sandbox) != "" {
		return failed, true
	}
	for _, name := range []string{wantFile + "." + sandbox, wantFile + ".towline"} {
		if text, ok := c.file(name); ok {
			return text, true
		}
	}
	return c.file(wantFile)
}

// refused is what Towline must say in a sandbox when it refuses what BuildKit
// builds, or empty.
func (c *testCase) refused(sandbox string) string {
	for _, args := range c.all("refused") {
		if args[0] == sandbox || args[0] == "towline" {
			return args[1]
		}
	}
	return ""
}

// differs says whether Towline makes something else of the case than BuildKit.
func (c *testCase) differs() bool {
	return len(c.all("refused")) > 0 || slices.ContainsFunc(c.archive.Files, func(f txtar.File) bool {
		return strings.HasPrefix(f.Name, wantFile+".")
	})
}

// contextPath is where a name of the archive is below dir: the context, or one of the
// named contexts beside it.
func contextPath(dir, name string) string {
	if rest, ok := strings.CutPrefix(name, "@"); ok {
		return filepath.Join(dir, "named", rest)
	}
	return filepath.Join(dir, "context", name)
}

// write makes the case's contexts in dir.
func (c *testCase) write(dir string) error {
	if err := os.MkdirAll(contextPath(dir, ""), 0o755); err != nil {
		return err
	}
	for _, f := range c.archive.Files {
		if f.Name == wantFile || strings.HasPrefix(f.Name, wantFile+".") {
			continue
		}
		if err := writeFile(contextPath(dir, f.Name), f.Data); err != nil {
			return err
		}
	}
	for _, d := range c.directives {
		if err := c.prepare(dir, d); err != nil {
			return fmt.Errorf("%s: %s: %w", c.name, strings.Join(d, " "), err)
		}
	}
	if err := settle(dir); err != nil {
		return err
	}
	for _, args := range c.all("mtime") {
		at, err := time.Parse(time.RFC3339Nano, args[1])
		if err != nil {
			return err
		}
		if err := os.Chtimes(contextPath(dir, args[0]), at, at); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// settle gives all files one time in the past, folders last.
func settle(dir string) error {
	var paths []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	at := unix.NsecToTimespec(contextTime().UnixNano())
	for _, path := range slices.Backward(paths) {
		err = errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
	}
	return err
}

// prepare does what a directive says about the contexts.
func (c *testCase) prepare(dir string, d []string) error {
	var path string
	if len(d) > 1 {
		path = contextPath(dir, d[1])
	}
	number := func(i, base int) int {
		n, err := strconv.ParseInt(d[i], base, 64)
		if err != nil {
			return -1 // the kernel refuses it
		}
		return int(n)
	}
	switch d[0] {
	case "mode":
		return unix.Chmod(path, uint32(number(2, 8)))
	case "chown":
		return os.Lchown(path, number(2, 10), number(3, 10))
	case "xattr":
		return unix.Lsetxattr(path, d[2], []byte(d[3]), 0)
	case "dir":
		return os.MkdirAll(path, 0o755)
	case "symlink":
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(d[2], path))
	case "hardlink":
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Link(contextPath(dir, d[2]), path))
	case "fifo":
		return unix.Mkfifo(path, 0o644)
	case "device":
		return unix.Mknod(path, unix.S_IFCHR|0o644, int(unix.Mkdev(uint32(number(2, 10)), uint32(number(3, 10)))))
	case "write":
		return writeFile(path, []byte(d[2]))
	case "sparse":
		return errors.Join(writeFile(path, []byte("begin")), os.Truncate(path, int64(number(2, 10))))
	case "fill":
		return writeFile(path, filling(number(2, 10)))
	case "unbase64":
		return unbase64(path)
	case "pack":
		return pack(path, d[2], contextPath(dir, d[3]))
	default:
		return known(d)
	}
}

// known checks a directive that is about the build.
func known(d []string) error {
	counts := map[string]int{
		"arg": 2, "label": 2, "secret": 3, "target": 2, "dockerfile": 2, "context": 2, "server": 1, "mtime": 3,
		"no-cache": 1, "add-host": 2, "ulimit": 2, "shm-size": 2, "error": 2, "refused": 3, "buildkit-refuses": 2, "platform": 2,
		"layout": 3, "ssh": 2, "main": 3,
	}
	if counts[d[0]] != len(d) {
		return errors.New("no such directive")
	}
	return nil
}

// filling is content that no compression makes small, and the same every time.
func filling(size int) []byte {
	data := make([]byte, max(size, 0))
	state := uint64(88172645463325252)
	for i := range data {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		data[i] = byte(state)
	}
	return data
}

// pairs are the NAME=VALUE of all directives of a name.
func (c *testCase) pairs(name string) map[string]string {
	pairs := map[string]string{}
	for _, args := range c.all(name) {
		key, value, _ := strings.Cut(args[0], "=")
		pairs[key] = value
	}
	return pairs
}

// words are the first arguments of all directives of a name.
func (c *testCase) words(name string) []string {
	var words []string
	for _, args := range c.all(name) {
		words = append(words, args[0])
	}
	return words
}

// outcome is what a builder made of a case.
type outcome struct {
	// Text describes the image, or is failed.
	Text string
	// Error is the message of a build that failed.
	Error string
	// Took is how long the build took.
	Took time.Duration
}

// failed is the description of a build that failed.
const failed = "error\n"

func (o *outcome) save(file string) error {
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

func loadOutcome(file string) (*outcome, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	o := &outcome{}
	return o, json.Unmarshal(data, o)
}

// check tells what is wrong with an error, or with there being none, where refused
// is expected if the case expects no other.
func (c *testCase) check(o *outcome, refused string) error {
	expected := c.one("error", refused)
	switch {
	case expected == "" && o.Error != "":
		return errors.New(o.Error)
	case expected != "" && o.Error == "":
		return fmt.Errorf("no error, want one with %q", expected)
	case !strings.Contains(o.Error, expected):
		return fmt.Errorf("error %q, want one with %q", o.Error, expected)
	}
	return nil
}
