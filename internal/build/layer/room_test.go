package layer

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/towline/towline/internal/problem"
)

func TestRoom(t *testing.T) {
	t.Parallel()
	free := uint64(100 << 20)
	r := &Room{dir: "/work", free: func(string) (uint64, uint64, bool) { return free, 1, true }}
	if err := errors.Join(r.Take("/small", 1), r.Take("/large", 99<<20)); err != nil {
		t.Error(err)
	}
	err := r.Take("/larger", 101<<20)
	if got, want := fmt.Sprint(err), "disk full: the file /larger has 105.9 MB, and 104.9 MB are free at /work"; !strings.Contains(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	r.free = func(string) (uint64, uint64, bool) { return 0, 0, false }
	if err := r.Take("/any", 1<<62); err != nil {
		t.Errorf("where the filesystem does not know: %v", err)
	}
}

func TestFull(t *testing.T) {
	t.Parallel()
	err := Full(fmt.Errorf("x: %w", unix.ENOSPC), t.TempDir())
	p, ok := errors.AsType[*problem.Error](err)
	if !ok || p.Fix == "" || !strings.Contains(err.Error(), "are free at ") || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if again := Full(err, t.TempDir()); again != err { //nolint:errorlint // the same
		t.Errorf("explained twice: %v", again)
	}
	if other := errors.New("other"); Full(other, "") != other { //nolint:errorlint // the same
		t.Error("another error was changed")
	}
}
