// Package inputs turns the action's inputs into checked settings.
//
// One table, Definitions, says which inputs there are; action.yml,
// docs/inputs.md and Parse are held to it by a test. Parse reports every
// mistake at once, and never falls back silently.
package inputs

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/towline/towline/internal/problem"
)

const opRead = "read the inputs"

// Parse reads every input by get, which gives an empty value for one that is
// not set, and what defaults depend on by env. All mistakes are reported
// together, each as a *problem.Error that names its input; the Settings then
// hold what could be read, which is good for masking its Secrets only.
func Parse(get, env func(name string) string) (Settings, error) {
	p := &parser{get: get, env: env, defs: map[string]Definition{}, values: map[string]string{}}
	for _, d := range Definitions() {
		p.defs[d.Name] = d
	}
	p.workspace = env("GITHUB_WORKSPACE")
	s := Settings{Workspace: p.workspace}
	p.credentials(&s.Credentials)
	p.registry(&s.Registry)
	p.build(&s.Build)
	p.task(&s.Task)
	p.runTask(&s.RunTask)
	p.destinations(&s)
	p.machine(&s)
	p.githubRegistry(&s)
	p.deployment(&s)
	p.dryRun(&s)
	p.crossChecks(s)
	p.region(&s)
	p.withoutEffect(&s)
	return s, errors.Join(p.problems...)
}

// parser collects the mistakes.
type parser struct {
	get, env  func(string) string
	defs      map[string]Definition
	values    map[string]string // what was read, defaults included
	workspace string
	problems  []error
}

// text is an input's value, or its default. Host paths are mapped, except in
// secrets, which stay as they are to the byte.
func (p *parser) text(name string) string {
	v := strings.TrimSpace(p.get(name))
	d := p.defs[name]
	if !d.Secret {
		v = mapHostPaths(v, p.workspace, p.env("RUNNER_TEMP"))
	}
	v = cmp.Or(v, d.Default)
	p.values[name] = v
	return v
}

// given says whether an input that was read has another value than its default.
func (p *parser) given(name string) bool {
	return p.values[name] != p.defs[name].Default
}

// fail adds a mistake in the input name. value may be a part of the input's; it
// is not shown for a secret.
func (p *parser) fail(name, value, fix string, err error) {
	if p.defs[name].Secret {
		value = ""
	}
	p.problems = append(p.problems, &problem.Error{Op: opRead, Input: name, Value: value, Err: err, Fix: fix})
}

// failf is fail with an error of its own.
func (p *parser) failf(name, value, fix, format string, args ...any) {
	p.fail(name, value, fix, fmt.Errorf(format, args...))
}

// single is the value of an input that takes one line.
func (p *parser) single(name, fix string) string {
	v := p.text(name)
	if strings.ContainsAny(v, "\r\n") {
		p.failf(name, v, fix, "several lines")
		return ""
	}
	return v
}

// boolean takes what YAML's core schema takes.
func (p *parser) boolean(name string, otherwise bool) bool {
	switch v := p.text(name); v {
	case "":
		return otherwise
	case "true", "True", "TRUE":
		return true
	case "false", "False", "FALSE":
		return false
	default:
		p.failf(name, v, "Write true or false.", "neither true nor false")
		return otherwise
	}
}

// number takes a whole number from low to high.
func (p *parser) number(name string, low, high int) int {
	v := p.text(name)
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		p.failf(name, v, fmt.Sprintf("Write a whole number from %d to %d.", low, high), "not between %d and %d", low, high)
		return low
	}
	return n
}

// path makes a path absolute by the workspace.
func (p *parser) path(v string) string {
	if !filepath.IsAbs(v) {
		v = filepath.Join(p.workspace, v)
	}
	return filepath.Clean(v)
}

// list is the input's list; see the function list.
func (p *parser) list(name string, commas bool) []item {
	items, err := list(p.text(name), commas)
	if err != nil {
		p.fail(name, "", "Close the quote, or double it where it belongs to the text.", err)
	}
	return items
}

// pairs gives each entry of a list of KEY=value to add, with found false for an
// entry without "=". Keys are not empty and not twice. Values are not shown in
// errors: people put secrets where none belong.
func (p *parser) pairs(name string, commas bool, form string, add func(key, value string, found bool) error) {
	p.pairsOf(name, p.list(name, commas), form, add)
}

// pairsOf is pairs with entries that were read already.
func (p *parser) pairsOf(name string, entries []item, form string, add func(key, value string, found bool) error) {
	seen := map[string]int{}
	for _, entry := range entries {
		key, value, found := strings.Cut(entry.text, "=")
		key = strings.TrimSpace(key)
		fix := "Write lines of " + form + "."
		if key == "" {
			p.failf(name, "", fix, "line %d: nothing before the first =", entry.line)
			continue
		}
		if before, twice := seen[key]; twice {
			p.failf(name, "", fix+" Each name may stand once.", "lines %d and %d: %q twice", before, entry.line, key)
			continue
		}
		seen[key] = entry.line
		if err := add(key, value, found); err != nil {
			p.fail(name, "", fix, fmt.Errorf("line %d: %w", entry.line, err))
		}
	}
}
