package deploy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// explanation says why a task failed, in words for the person who deployed.
type explanation struct {
	// summary is one clause without a full stop; fix one sentence or empty.
	summary, fix string
	// words are those of ECS that were recognised; empty where summary is made
	// of them or of an exit code.
	words string
	// rank orders explanations: the higher, the more it tells.
	rank int
}

// Ranks, from nothing said to a cause that is known.
const (
	rankUnknown = iota
	rankVague
	rankExit
	rankKnown
)

// cause is a row of the table: the words of ECS, and what they mean.
type cause struct {
	pattern *regexp.Regexp
	// summary and fix may hold ${NAME}, a group of the pattern.
	summary, fix string
	rank         int
}

// causes is the table of known failures, first match wins. The texts on the
// left are those of ECS, its agents and container runtimes as they stand in
// stopped reasons, container reasons, service events and logs.
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
func causes() []cause {
	known := slices.Concat(
		causesOfImage(), causesOfVolumes(), causesOfNetwork(), causesOfSetup(), causesOfStart(),
		causesOfPlace(), causesOfRun(), causesOfService(),
	)
	table := make([]cause, 0, len(known))
	add := func(rows [][3]string, rank int) {
		for _, r := range rows {
			table = append(table, cause{pattern: regexp.MustCompile("(?is)" + r[0]), summary: r[1], fix: r[2], rank: rank})
		}
	}
	add(known, rankKnown)
	add(vagueCauses(), rankVague)
	return table
}

// explainTask explains one failed task from ECS's words about it, and from
// what its container wrote.
func explainTask(table []cause, f TaskFailed, lines []string) explanation {
	texts := []string{f.StoppedReason}
	for _, c := range f.Containers {
		texts = append(texts, c.Reason)
	}
	// The task's own reason comes first: a container that the scheduler killed
	// for its health checks has exit code 137 like one that ran out of memory.
	texts = append(texts, f.StopCode)
	if n := len(lines); n > 0 {
		texts = append(texts, execTrouble(lines))
	}
	for _, text := range texts {
		e, known := explainText(table, text)
		switch {
		case known && e.summary == containerCheck:
			return explainCheck(e, f.Containers)
		case known:
			return e
		}
	}
	if culprit := blame(f.Containers); culprit != nil {
		return explainExit(*culprit)
	}
	return explanation{summary: strings.TrimRight(firstOf(f.StoppedReason, f.StopCode, "no reason given"), ". ")}
}

// execTrouble keeps of a log only what the runtime says of a wrong
// architecture: a program's own words about pulls and memory mean other things.
func execTrouble(lines []string) string {
	for _, l := range lines {
		if mentions(l, "exec format error", "exec user process caused") {
			return l
		}
	}
	return ""
}

// explainText looks a text up in the table.
func explainText(table []cause, text string) (explanation, bool) {
	if text == "" {
		return explanation{}, false
	}
	for _, row := range table {
		if at := row.pattern.FindStringSubmatchIndex(text); at != nil {
			fill := func(words string) string { return string(row.pattern.ExpandString(nil, words, text, at)) }
			return explanation{summary: strings.TrimRight(fill(row.summary), ":. "), fix: fill(row.fix), words: text, rank: row.rank}, true
		}
	}
	return explanation{}, false
}

// explainExit explains an exit code.
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
func explainExit(c ContainerEnd) explanation {
	code := *c.ExitCode
	e := explanation{
		summary: fmt.Sprintf("container %s ended with exit code %d", c.Name, code),
		fix:     "Run the image locally with the task's environment and look at its output.",
		rank:    rankExit,
	}
	switch code {
	case 0:
		e.fix = "A service's container must keep running: start the program in the foreground."
	case 125, 126:
		e.summary += " (its command cannot be executed)"
		e.fix = "Make the command executable in the image, and check that it is built for the task's architecture."
	case 127:
		e.summary += " (its command was not found)"
		e.fix = "Check ENTRYPOINT and CMD of the Dockerfile, and entryPoint and command in the task definition."
	case 132:
		e.summary += " (SIGILL: an instruction that the CPU does not have)"
		e.fix = "Build for a CPU that the host has: without flags such as -march=native."
	case 134:
		e.summary += " (SIGABRT: the program gave itself up)"
		e.fix = "Look for the failed assertion or the runtime's last words in its output."
	case 137:
		e.summary += " (SIGKILL: often too little memory, or a stop that took too long)"
		e.fix = "Raise memory in the task definition, or make the program end within stopTimeout after SIGTERM."
	case 139:
		e.summary += " (SIGSEGV: the program crashed)"
		e.fix = "Check that native libraries fit the image's base and architecture."
	case 143:
		e.summary += " (SIGTERM)"
		e.fix = "Something told the program to end: look at the service's events for who stopped its task."
	}
	return e
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
