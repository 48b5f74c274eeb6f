package sandbox

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestInPlaceKilled ends commands in place in every way that a command can end, at
// random moments of what it does to the root filesystem. Whatever it was, the
// container is its own again (run checks that after each), and the next command
// finds the root filesystem as the last one left it. The container itself ends with
// its first process, so there is nothing to be usable after that was killed.
func TestInPlaceKilled(t *testing.T) {
	t.Parallel()
	c := newContainer(t)
	const busy = "(while :; do echo x >/f; mkdir -p /d/e; mv /d /etc/d; ln -sf f /l; rm -rf /etc/d /etc/hosts 2>/dev/null; echo y >/etc/hosts; done) & "
	endings := map[string]step{
		"the shell killed":        {Script: busy + "echo %s; sleep 0.%02d; kill -9 $$"},
		"all killed":              {Script: busy + "echo %s; sleep 0.%02d; kill -9 -1; exit 3"},
		"first process attacked":  {Script: busy + "echo %s; sleep 0.%02d; for s in KILL STOP TSTP HUP QUIT ILL TRAP ABRT BUS FPE SEGV USR1 USR2 PIPE ALRM SYS XCPU XFSZ VTALRM PROF; do kill -$s 1; done; kill -ABRT $$"},
		"cancelled":               {Script: busy + "echo %s; sleep 0.%02d; echo now; sleep 100", CancelOn: "now\n"},
		"parents killed":          {Script: busy + "echo %s; sleep 0.%02d; setsid sleep 100 & kill -9 $PPID; exit 3"},
		"killed, as another user": {Script: "echo %s; sleep 0.%02d; kill -9 -1; exit 3", Process: Process{User: "app"}},
	}
	const seed = 1
	random := rand.New(rand.NewPCG(seed, 0))
	var steps []step
	var names []string
	for range 3 {
		for _, name := range slices.Sorted(maps.Keys(endings)) {
			s := endings[name]
			s.Script = fmt.Sprintf(s.Script, "begun", random.IntN(25))
			steps, names = append(steps, s, step{Script: "test -x /bin/busybox && cat /var/lib/data/below && ls /etc/app && echo usable"}), append(names, name, name+", next")
		}
	}
	for i, r := range c.run(t, steps...) {
		switch {
		case i%2 == 0 && (r.Error == "" || !strings.Contains(r.Output, "begun\n")):
			t.Errorf("%s: got %q, %q; want it to begin and fail", names[i], r.Output, r.Error)
		case i%2 == 1 && (r.Error != "" || r.Output != "original\nusable\n"):
			t.Errorf("%s: got %q, %q", names[i], r.Output, r.Error)
		}
	}
}

// TestInPlaceSwapFails: a root filesystem of which only a part can be moved to /,
// before or within etc, is put back whole.
func TestInPlaceSwapFails(t *testing.T) {
	t.Parallel()
	c := newContainer(t)
	// Folders for the system are made where they are missing, and stay.
	const list = "cd /towline/state/lower && find . | grep -v -e /dev -e /proc -e /sys | sort"
	reports := c.run(t,
		// These come before and after the folder that cannot be renamed.
		step{Script: "cd /towline/state/lower && mkdir -p 0-before/sub z-after bin && echo x >0-before/sub/file && cp /bin/busybox bin/sh && " + list},
		step{Script: "true", Root: "/towline/state/lower"},
		step{Script: list},
		step{Script: "rm -r /towline/state/lower/0-before /towline/state/lower/z-after /towline/state/lower/bin"},
	)
	if reports[0].Error != "" {
		t.Skipf("the root filesystem could not be made: %s %s", reports[0].Error, reports[0].Output)
	}
	if r := reports[1]; !strings.Contains(r.Error, "invalid cross-device link") {
		t.Errorf("got %q, want a rename that is refused", r.Error)
	}
	if diff := cmp.Diff(strings.Fields(reports[2].Output), strings.Fields(reports[0].Output)); diff != "" {
		t.Errorf("the root filesystem (-got +want):\n%s", diff)
	}
}

// TestMoveAllFails makes the move at each place of a list fail, and undoes those before it.
func TestMoveAllFails(t *testing.T) {
	t.Parallel()
	const entries = 6
	for failing := range entries + 1 {
		from, to := t.TempDir(), t.TempDir()
		var want []string
		for i := range entries {
			name := fmt.Sprintf("entry-%d", i)
			want = append(want, name)
			write(t, filepath.Join(from, name), "file", name)
			if i == failing {
				// In the way: nothing is ever replaced.
				write(t, filepath.Join(to, name), "there", "before")
			}
		}
		w := &swap{root: from}
		err := w.moveAll(from, to, nil)
		if (err != nil) != (failing < entries) {
			t.Errorf("failing at %d: got %v", failing, err)
		}
		if moved := len(w.journal.done); moved != min(failing, entries) {
			t.Errorf("failing at %d: %d moved", failing, moved)
		}
		if err = w.journal.undo(); err != nil {
			t.Errorf("failing at %d: undo: %v", failing, err)
		}
		found, err := os.ReadDir(from)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range found {
			got = append(got, e.Name())
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("failing at %d (-got +want):\n%s", failing, diff)
		}
		if failing < entries {
			if content, err := os.ReadFile(filepath.Join(to, want[failing], "there")); string(content) != "before" || err != nil {
				t.Errorf("what was in the way: %q, %v", content, err)
			}
		}
	}
}
