package deploy

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// record is one entry of testdata/failures.txt: what AWS said.
type record struct {
	failure TaskFailed
	event   string
	lines   []string
}

// read takes one line of what AWS said.
func (r *record) read(t *testing.T, line string) {
	t.Helper()
	kind, text, _ := strings.Cut(line, " ")
	if len(r.failure.Containers) == 0 && (kind == "container:" || kind == "exit:") {
		r.failure.Containers = []ContainerEnd{{Name: "app", Essential: true}}
	}
	switch kind {
	case "task:":
		r.failure.StoppedReason = text
	case "code:":
		r.failure.StopCode = text
	case "container:":
		r.failure.Containers[0].Reason = text
	case "exit:":
		code, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		r.failure.Containers[0].ExitCode = &code
	case "event:":
		r.event = text
	case "log:":
		r.lines = append(r.lines, text)
	default:
		t.Fatalf("not a line of a record: %q", line)
	}
}

// TestExplain holds what is made of AWS's own words, sentence and remedy.
func TestExplain(t *testing.T) {
	t.Parallel()
	const golden = "testdata/failures.txt"
	data, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	table := causes()
	var b strings.Builder
	said, n := record{}, 0
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "" || line[0] == '#':
			b.WriteString(line + "\n")
		case line[0] == '>':
		case line[0] != '=':
			said.read(t, line)
			b.WriteString(line + "\n")
		default:
			got, known := explainTask(table, said.failure, said.lines), true
			if said.event != "" {
				got, known = explainText(table, said.event)
			}
			if known && got.rank > rankUnknown && got.fix == "" {
				t.Errorf("%q has no remedy", got.summary)
			}
			if strings.Contains(got.summary+got.fix, "${") || strings.HasSuffix(got.summary, ".") {
				t.Errorf("not a clause: %q, %q", got.summary, got.fix)
			}
			b.WriteString(strings.TrimRight("= "+got.summary, " ") + "\n")
			if got.fix != "" {
				b.WriteString("> " + got.fix + "\n")
			}
			said, n = record{}, n+1
		}
	}
	if n < 40 {
		t.Errorf("%d messages, want at least 40", n)
	}
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(data), b.String()); diff != "" {
		t.Errorf("explanations (-want +got), -update rewrites:\n%s", diff)
	}
}

// TestEveryCauseIsSeen keeps rows out of the table that no message in
// testdata/failures.txt reaches: nobody would notice that they are wrong.
func TestEveryCauseIsSeen(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/failures.txt")
	if err != nil {
		t.Fatal(err)
	}
	table := causes()
	seen := map[int]bool{}
	for line := range strings.Lines(string(data)) {
		kind, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasSuffix(kind, ":") || kind == "exit:" {
			continue
		}
		for i, row := range table {
			if row.pattern.MatchString(text) {
				seen[i] = true
				break
			}
		}
	}
	for i, row := range table {
		if !seen[i] {
			t.Errorf("no message reaches %s (%q)", row.pattern, row.summary)
		}
	}
}

// TestWhyPicksTheMostTelling mixes failures, as a deployment does.
func TestWhyPicksTheMostTelling(t *testing.T) {
	t.Parallel()
	exit := TaskFailed{TaskID: "a", StopCode: "EssentialContainerExited", StoppedReason: "Essential container in task exited", Containers: []ContainerEnd{{Name: "app", ExitCode: new(1)}}}
	memory := TaskFailed{TaskID: "b", Containers: []ContainerEnd{{Name: "app", ExitCode: new(137), Reason: "OutOfMemoryError: Container killed due to memory usage"}}}
	odd := TaskFailed{TaskID: "c", StoppedReason: "odd"}
	tests := map[string]struct {
		failed []TaskFailed
		events []string
		want   string
	}{
		"known before exit code": {failed: []TaskFailed{exit, memory, exit}, want: "a container ran out of memory"},
		"exit code before odd":   {failed: []TaskFailed{exit, odd, odd}, want: "container app ended with exit code 1"},
		"odd":                    {failed: []TaskFailed{odd}, want: "odd"},
		"events": {
			events: []string{"(service web) has started 1 tasks", "(service web) was unable to place a task. Reason: Capacity is unavailable at this time."},
			want:   "no task can be placed: AWS has no capacity there at the moment",
		},
		"nothing": {},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTaskWatch(&Client{}, &deployment{})
			w.failed = test.failed
			if got := w.why(test.events); got.summary != test.want {
				t.Errorf("summary %q, want %q", got.summary, test.want)
			}
		})
	}
}
