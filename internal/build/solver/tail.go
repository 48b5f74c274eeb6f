package solver

import (
	"bytes"
	"slices"
	"sync"
)

// tailLines is how many of a failed RUN's last lines an error shows.
const tailLines = 20

// tail passes a RUN's output on and keeps the end of it.
type tail struct {
	emit func([]byte)

	mu   sync.Mutex
	kept []byte
}

// Write passes data on; it never fails.
func (t *tail) Write(data []byte) (int, error) {
	t.emit(bytes.Clone(data))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, data...)
	if extra := len(t.kept) - 32<<10; extra > 0 {
		t.kept = append(t.kept[:0], t.kept[extra:]...)
	}
	return len(data), nil
}

// lines gives the last lines that are not blank.
func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for _, line := range slices.Backward(bytes.Split(t.kept, []byte("\n"))) {
		if line = bytes.TrimRight(line, " \t\r"); len(line) > 0 {
			lines = append(lines, string(line))
		}
		if len(lines) == tailLines {
			break
		}
	}
	slices.Reverse(lines)
	return lines
}
