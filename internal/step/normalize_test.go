package step_test

import (
	"regexp"
	"slices"
	"sort"
	"strings"
)

// normalizer replaces what no two runs have alike.
func normalizer(paths ...string) func(string) string {
	var pairs []string
	for i, path := range paths {
		pairs = append(pairs, path, []string{"$DIR", "$WORKSPACE", "$TMP"}[i])
	}
	sortPairs(pairs)
	replacer := strings.NewReplacer(pairs...)
	patterns := []struct {
		pattern *regexp.Regexp
		with    string
	}{
		{regexp.MustCompile(`(?m)^::add-mask::.*\n`), ""}, // some come from requests that run side by side
		{regexp.MustCompile(`(?m)^::stop-commands::\w{26}$`), "::stop-commands::TOKEN"},
		{regexp.MustCompile(`(?m)^::[A-Z0-9]{26}::$`), "::TOKEN::"},
		{regexp.MustCompile(`towline_[A-Z0-9]{26}`), "EOF"},
		{regexp.MustCompile(`sha256:[0-9a-f]{12,64}`), "sha256:DIGEST"},
		// What platforms share bears the name of the one that asked first.
		{regexp.MustCompile(`\[linux/\w+ `), "[PLATFORM "},
		{regexp.MustCompile(`task-definition-\d+\.json`), "task-definition-NUMBER.json"},
		// How far a task has come when ECS is asked first is chance.
		{regexp.MustCompile(`(?m)^waiting    task [0-9a-f]{32} +(provisioning|pending)\n`), ""},
		{regexp.MustCompile(`towline-[A-Z2-7]{26}`), "towline-TOKEN"},
		{regexp.MustCompile(`"size":\d+`), `"size":SIZE`},
		{regexp.MustCompile(`\b\d+(\.\d+)? (B|kB|MB)\b`), "SIZE"},
		{regexp.MustCompile(`\b(\d+m\d\ds|\d+\.\d+s)\b`), "TIME"},
		{regexp.MustCompile(`\b(SIZE|TIME) +`), "$1  "},
		// Which phases took a second hangs on how long a failing one tried again.
		{regexp.MustCompile(`(?m)^(failed +in [^:\n]+ after TIME): .*$`), "$1"},
		{regexp.MustCompile(`(trying again in) \d+ms`), "$1 TIME"}, // these have jitter
		{regexp.MustCompile(`\bASIA[0-9A-F]{16}\b`), "KEY"},
		{regexp.MustCompile(`(?i)(secret.access.key<<EOF\n)[0-9a-f]{40}\n`), "${1}SECRET\n"},
		{regexp.MustCompile(`\bIQoJb3JpZ2luX2Vj\w+`), "SESSION"},
		{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "TASK"},
		{regexp.MustCompile(`\(request [^)]*\)`), "(request ID)"},
		{regexp.MustCompile(`: (config|layer) sha256:DIGEST: POST`), ": BLOB: POST"}, // the first that fails
		// Whether a side container has ended when ECS is asked is chance.
		{regexp.MustCompile(`(?m)^ *container proxy: exit.*\n`), ""},
		// What a chart draws are times, and what took long enough to be drawn.
		{regexp.MustCompile("(?s)```mermaid\ngantt.*?```"), "CHART"},
		{regexp.MustCompile(`(?m)^(\| <code>TASK</code>) \|.*$`), "$1 | TIMES |"},
		{regexp.MustCompile(`(?m)^(\| \d+ tasks?, the last:<br><code>TASK</code> \|.*) \| [^|]* \|$`), "$1 | TIME |"},
		{regexp.MustCompile(`(\| <code>TASK</code> \| TIMES \|\n)+`), "$1"},
		{regexp.MustCompile(`<br>container proxy: exit code \d+`), ""},
		{regexp.MustCompile(`(?m)^::TOKEN::\n::stop-commands::TOKEN\n`), ""},
	}
	return func(text string) string {
		text = replacer.Replace(text)
		for _, p := range patterns {
			text = p.pattern.ReplaceAllString(text, p.with)
		}
		return sortTransfers(pullsFirst(sortDeployment(text)))
	}
}

// sortPairs puts longer paths first, as one may hold the other.
func sortPairs(pairs []string) {
	sort.Sort(byLength(pairs))
}

type byLength []string

func (b byLength) Len() int           { return len(b) / 2 }
func (b byLength) Less(i, j int) bool { return len(b[2*i]) > len(b[2*j]) }
func (b byLength) Swap(i, j int) {
	b[2*i], b[2*j] = b[2*j], b[2*i]
	b[2*i+1], b[2*j+1] = b[2*j+1], b[2*i+1]
}

// pullsFirst puts the layers of bases before the build's steps: beside which of
// them they arrive is chance.
func pullsFirst(text string) string {
	const sandbox, end = "\nsandbox ", "::endgroup::\n"
	before, rest, found := strings.Cut(text, sandbox)
	name, rest, _ := strings.Cut(rest, "\n")
	steps, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return text
	}
	var pulls, others string
	for line := range strings.Lines(steps) {
		if strings.HasPrefix(line, "pulled ") {
			pulls += line
		} else {
			others += line
		}
	}
	return before + sandbox + name + "\n" + pulls + others + end + after
}

// sortTransfers sorts neighbouring lines about layers, which move side by side.
func sortTransfers(text string) string {
	lines := strings.SplitAfter(text, "\n")
	moves := regexp.MustCompile(`^(pushed|exists|mounted|pulled) +(layer|config) `)
	for from := 0; from < len(lines); from++ {
		to := from
		for to < len(lines) && moves.MatchString(lines[to]) {
			to++
		}
		if to > from {
			sort.Strings(lines[from:to])
			from = to
		}
	}
	return strings.Join(lines, "")
}

// sortDeployment brings what happened during a deployment into one order, each
// thing once. Polls come at random moments: which of the states in between they
// see, and what together, varies.
func sortDeployment(text string) string {
	before, rest, found := strings.Cut(text, "::group::Deployment\n")
	during, after, ended := strings.Cut(rest, "::endgroup::\n")
	if !found || !ended {
		return text
	}
	if strings.Contains(during, "\nservice ") {
		return before + "::group::Deployment\n" + sortServices(during) + "::endgroup::\n" + after
	}
	var blocks []string
	for line := range strings.Lines(during) {
		switch {
		case strings.HasPrefix(line, "::"), strings.HasPrefix(line, "waiting "), strings.HasPrefix(line, "stage "):
		case strings.HasPrefix(line, " ") && len(blocks) > 0:
			blocks[len(blocks)-1] += line
		case strings.HasPrefix(line, "why "): // told by an event or by a task, whichever is seen first
			blocks = append(blocks, line)
		case strings.HasPrefix(line, "to do ") && len(blocks) > 0:
			blocks[len(blocks)-1] += line
		case !slices.Contains(blocks, line):
			blocks = append(blocks, line)
		}
	}
	blocks = slices.DeleteFunc(blocks, func(block string) bool {
		passing := strings.HasPrefix(block, "stage") && strings.Contains(block, " 0% of") && !strings.Contains(block, " failed ")
		return passing || strings.HasPrefix(block, "rollback") && strings.Contains(block, "by ECS itself") // seen while under way, or not
	})
	order := []string{"started", "joined", "see", "stage", "event", "failed", "why", "last lines", "alarm", "rollback", "paused", "unchanged", "left", "ended"}
	rank := func(block string) int {
		return slices.IndexFunc(order, func(verb string) bool { return strings.HasPrefix(block, verb) })
	}
	slices.SortStableFunc(blocks, func(a, b string) int {
		if strings.HasPrefix(a, "event") && strings.HasPrefix(b, "event") {
			return strings.Compare(a, b)
		}
		return rank(a) - rank(b)
	})
	return before + "::group::Deployment\n" + regexp.MustCompile(`(?m)^event      \d\d:\d\d:\d\d`).ReplaceAllString(strings.Join(blocks, ""), "event      TIME") + "::endgroup::\n" + after
}

// sortServices sorts neighbouring lines of several services that go side by side.
func sortServices(during string) string {
	var lines []string
	for line := range strings.Lines(during) {
		if !strings.HasPrefix(line, "::") && !strings.HasPrefix(line, "waiting ") {
			line = regexp.MustCompile(`^event      \d\d:\d\d:\d\d`).ReplaceAllString(line, "event      TIME")
			lines = append(lines, line)
		}
	}
	verb := func(line string) string { word, _, _ := strings.Cut(line, " "); return word }
	for from := 0; from < len(lines); from++ {
		to := from + 1
		for to < len(lines) && verb(lines[to]) == verb(lines[from]) {
			to++
		}
		if slices.Contains([]string{"started", "rollback"}, verb(lines[from])) {
			sort.Strings(lines[from:to])
		}
		from = to - 1
	}
	return strings.Join(lines, "")
}

// anyDeployment takes out what tells apart deployments that began side by side:
// which of them was the first is chance.
func anyDeployment(text string) string {
	text = regexp.MustCompile(`ecs-svc/\d+`).ReplaceAllString(text, "ecs-svc/ID")
	text = regexp.MustCompile(`(service-deployment/[\w-]+/[\w-]+/)[0-9a-f]{21}`).ReplaceAllString(text, "${1}ID")
	return regexp.MustCompile(`(/deployments/)[0-9a-f]{21}`).ReplaceAllString(text, "${1}ID")
}
