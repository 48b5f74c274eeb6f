package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// enterTest as the only argument makes the test binary a program that calls
// Enter and says what it finds.
const enterTest = "enter-test"

func TestMain(m *testing.M) {
	if code, ok := Main(os.Args); ok {
		os.Exit(code) //nolint:forbidigo // a main
	}
	if len(os.Args) == 3 && os.Args[1] == enterTest {
		os.Exit(enterMain(os.Args[2])) //nolint:forbidigo // a main
	}
	m.Run()
}

// entered is what enterMain says.
type entered struct {
	Entry    Entry
	Kernel   string // the environment that the kernel shows
	Exe      string
	Dumpable int
	Files    []string
	Mounts   string // the mount namespace
	UID      int
	Sandbox  string
	Warning  string
	Error    string
	Output   string
}

func enterMain(root string) int {
	entry := Enter(os.Args, os.Environ()) //nolint:forbidigo // a main
	if entry.Exit {
		return entry.Code
	}
	e := entered{Entry: entry, UID: os.Geteuid()}
	kernel, _ := os.ReadFile("/proc/self/environ")
	e.Kernel = string(kernel)
	e.Exe, _ = os.Readlink("/proc/self/exe")
	e.Mounts, _ = os.Readlink("/proc/self/ns/mnt")
	e.Dumpable, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	files, _ := filepath.Glob("/proc/self/fd/*")
	for _, file := range files {
		if target, err := os.Readlink(file); err == nil {
			e.Files = append(e.Files, target)
		}
	}
	e.try(root)
	if err := json.NewEncoder(os.Stdout).Encode(e); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 42
}
