// Command tool does in a RUN what busybox has no applet for.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tool:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 4 && args[0] == "xattr":
		return syscall.Setxattr(args[1], args[2], []byte(args[3]), 0)
	case len(args) == 2 && args[0] == "cap":
		// CAP_NET_BIND_SERVICE, permitted and effective, in the kernel's form, revision 2.
		value := "\x01\x00\x00\x02\x00\x04" + strings.Repeat("\x00", 14)
		return syscall.Setxattr(args[1], "security.capability", []byte(value), 0)
	case len(args) == 3 && args[0] == "utime":
		n, err := strconv.ParseInt(args[2], 10, 64)
		if err != nil {
			return err
		}
		at := syscall.NsecToTimespec(n)
		return syscall.UtimesNano(args[1], []syscall.Timespec{at, at})
	case len(args) == 2 && args[0] == "socket":
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		return syscall.Bind(fd, &syscall.SockaddrUnix{Name: args[1]})
	case len(args) == 1 && args[0] == "keys":
		return keys(os.Getenv("SSH_AUTH_SOCK"))
	case len(args) == 2 && args[0] == "raw":
		// A name that is not UTF-8.
		return os.WriteFile(args[1]+"/\xff\xfe-\xe4", []byte("raw\n"), 0o644)
	}
	return fmt.Errorf("what is %q?", args)
}

// keys writes the digests of the keys that an ssh agent has
// (https://datatracker.ietf.org/doc/html/draft-ietf-sshm-ssh-agent, 3.5).
func keys(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	if _, err = conn.Write([]byte{0, 0, 0, 1, 11}); err != nil {
		return err
	}
	var head struct {
		Length uint32
		Type   uint8
		Count  uint32
	}
	if err = binary.Read(conn, binary.BigEndian, &head); err != nil {
		return err
	}
	if head.Type != 12 {
		return fmt.Errorf("the agent answers %d", head.Type)
	}
	for range head.Count {
		blob, err := field(conn)
		if err != nil {
			return err
		}
		comment, err := field(conn)
		if err != nil {
			return err
		}
		fmt.Printf("%x %q\n", sha256.Sum256(blob), comment)
	}
	return nil
}

func field(r io.Reader) ([]byte, error) {
	var length uint32
	if err := binary.Read(r, binary.BigEndian, &length); err != nil {
		return nil, err
	}
	data := make([]byte, length)
	_, err := io.ReadFull(r, data)
	return data, err
}
