package deploy

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestExplain holds what is made of ECS's own words.
func TestExplain(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/failures.txt")
	if err != nil {
		t.Fatal(err)
	}
	table := causes()
	var (
		failure TaskFailed
		event   string
		lines   []string
		first   string
	)
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\n")
		kind, text, _ := strings.Cut(line, " ")
		if first == "" && kind != "#" {
			first = line
		}
		switch kind {
		case "task:":
			failure.StoppedReason = text
		case "container:", "exit:":
			if failure.Containers == nil {
				failure.Containers = []ContainerEnd{{Name: "app", Essential: true}}
			}
			if kind == "container:" {
				failure.Containers[0].Reason = text
				continue
			}
			code, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			failure.Containers[0].ExitCode = &code
		case "event:":
			event = text
		case "log:":
			lines = append(lines, text)
		case "=":
			var got explanation
			if event != "" {
				got, _ = explainText(table, event)
			} else {
				got = explainTask(table, failure, lines)
			}
			if got.summary != text {
				t.Errorf("%s\n got %q\nwant %q", first, got.summary, text)
			}
			if got.rank == rankKnown && got.fix == "" && !strings.Contains(got.summary, "taken away") {
				t.Errorf("%s: %q has no remedy", first, got.summary)
			}
			failure, event, lines, first = TaskFailed{}, "", nil, ""
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
