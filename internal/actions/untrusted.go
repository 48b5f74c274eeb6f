package actions

import (
	"bytes"
	"crypto/rand"
	"io"
	"strings"
	"unicode"
)

// maxLine is how many bytes of a line without an end are kept back.
const maxLine = 256 << 10

// untrusted collects whole lines, so that lines of several writers never mix.
type untrusted struct {
	r      *Runner
	line   []byte
	cr     bool // the last byte was a CR, so that an LF now belongs to it
	closed bool
}

// Untrusted is a writer for text that is not ours: the output of a RUN, a
// container's log, a service's events. The runner processes no command in it
// until Close, whatever is written. Lines appear when they end: at LF, CR or
// CRLF, which is where the runner ends them. Several writers may be open at once.
func (r *Runner) Untrusted() io.WriteCloser {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open++
	return &untrusted{r: r}
}

// Write takes all of p. It fails only after Close.
func (u *untrusted) Write(p []byte) (int, error) {
	u.r.mu.Lock()
	defer u.r.mu.Unlock()
	if u.closed {
		return 0, io.ErrClosedPipe
	}
	n := len(p)
	var lines []byte
	for len(p) > 0 {
		if u.cr && p[0] == '\n' {
			u.cr, p = false, p[1:]
			continue
		}
		u.cr = false
		end := bytes.IndexAny(p, "\r\n")
		if end < 0 {
			u.line = append(u.line, p...)
			break
		}
		lines = append(append(append(lines, u.line...), p[:end]...), '\n')
		u.line = u.line[:0]
		u.cr = p[end] == '\r'
		p = p[end+1:]
	}
	for len(u.line) > maxLine {
		cut := cutAt(u.line)
		lines = append(append(lines, u.line[:cut]...), '\n')
		u.line = append(u.line[:0], u.line[cut:]...)
	}
	u.r.foreign(lines)
	return n, nil
}

// cutAt is where to break an overlong line: at its last blank if that is near
// the end, so that a secret is seldom cut in two and then not masked.
func cutAt(line []byte) int {
	if blank := bytes.LastIndexAny(line[:maxLine], " \t"); blank >= maxLine/2 {
		return blank + 1
	}
	return maxLine
}

// Close writes what is left of the last line, and lets the runner process
// commands again unless another writer is open. Closing twice is harmless.
func (u *untrusted) Close() error {
	u.r.mu.Lock()
	defer u.r.mu.Unlock()
	if u.closed {
		return nil
	}
	u.closed = true
	if len(u.line) > 0 {
		u.r.foreign(append(u.line, '\n'))
	}
	u.r.open--
	if u.r.open == 0 {
		u.r.resume()
	}
	return nil
}

// foreign writes whole lines where the runner does not listen. r.mu is held.
func (r *Runner) foreign(lines []byte) {
	if len(lines) == 0 {
		return
	}
	if r.plain {
		r.text(strings.TrimSuffix(string(lines), "\n"))
		return
	}
	if r.token == "" {
		r.token = rand.Text()
		_, _ = io.WriteString(r.stdout, "::stop-commands::"+r.token+"\n")
	}
	_, _ = r.stdout.Write(lines)
}

// resume lets the runner process commands again. A later untrusted line stops
// it once more, with another token. r.mu is held.
func (r *Runner) resume() {
	if r.token != "" {
		_, _ = io.WriteString(r.stdout, "::"+r.token+"::\n")
		r.token = ""
	}
}

// defuse gives line with a blank in every place that could make it a command:
// in a `::` that the line starts with and in each `##[`. The runner compares
// by the rules of a culture, for which characters without a shape do not
// exist, so they are not seen here either.
func defuse(line string) string {
	line = strings.ToValidUTF8(line, "\uFFFD")
	var out strings.Builder
	var shaped int        // shaped characters so far, 2 for "more"
	var last, before rune // the last two characters that the runner compares
	leadingColon := false // the line's first shaped character is a colon
	for _, c := range line {
		if !unicode.In(c, unicode.L, unicode.N, unicode.P, unicode.S, unicode.Z) {
			out.WriteRune(c)
			continue
		}
		switch {
		case c == ':' && last == ':' && leadingColon && shaped == 1:
			out.WriteByte(' ')
		case c == '[' && last == '#' && before == '#':
			out.WriteByte(' ')
		}
		if !unicode.Is(unicode.Z, c) {
			if shaped == 0 {
				leadingColon = c == ':'
			}
			shaped = min(shaped+1, 2)
		}
		before, last = last, c
		out.WriteRune(c)
	}
	return out.String()
}
