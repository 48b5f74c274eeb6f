package dockerfile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/util/suggest"

	"github.com/towline/towline/internal/problem"
)

// Stage is a stage of a Dockerfile.
type Stage struct {
	// Name is that of AS, or the stage's number, counted from 0.
	Name string
	// Base is what FROM names, with the arguments before the first FROM put in.
	Base string
	// Platform is FROM's --platform as it is written, or empty.
	Platform string
	// Line is that of its FROM, counted from 1.
	Line int
}

// Inspect reads a Dockerfile as the frontend does, without building anything:
// it finds mistakes of syntax, each a *problem.Error with its line, and gives
// the stages that target (default: the last) is made of, in their order.
func Inspect(text []byte, display, target string, buildArgs map[string]string) ([]Stage, error) {
	stages, args, err := parse(text)
	if err == nil && len(stages) == 0 {
		err = errors.New("dockerfile contains no stages to build")
	}
	last := len(stages) - 1
	if err == nil && target != "" {
		if last, err = findTarget(stages, target); err != nil {
			return nil, &problem.Error{Op: "build " + display, Err: err, File: display}
		}
	}
	if err != nil {
		p := &problem.Error{Op: "build " + display, Err: innermost(err), File: display}
		if at, ok := errors.AsType[*parser.LocationError](err); ok && len(at.Locations) > 0 && len(at.Locations[0]) > 0 {
			p.Line = at.Locations[0][0].Start.Line
		}
		return nil, p
	}
	i := inspector{stages: stages, bases: bases(stages, args, buildArgs), needed: map[int]bool{}}
	i.need(last)
	var found []Stage
	for n, s := range stages {
		if i.needed[n] {
			found = append(found, Stage{Name: cmp.Or(s.Name, strconv.Itoa(n)), Base: i.bases[n], Platform: s.Platform, Line: s.Location[0].Start.Line})
		}
	}
	return found, nil
}

func parse(text []byte) ([]instructions.Stage, []instructions.ArgCommand, error) {
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	return instructions.Parse(parsed.AST, nil)
}

// findTarget finds a stage by its name or number.
func findTarget(stages []instructions.Stage, target string) (int, error) {
	if n, found := instructions.HasStage(stages, target); found {
		return n, nil
	}
	if n, err := strconv.Atoi(target); err == nil && n >= 0 && n < len(stages) {
		return n, nil
	}
	var names []string
	for _, s := range stages {
		names = append(names, s.Name)
	}
	return 0, suggest.WrapError(fmt.Errorf("target stage %q could not be found", target), target, names, false)
}

// bases are the stages' bases, in which the arguments before the first FROM
// are put in. One that cannot be is left as it is written.
func bases(stages []instructions.Stage, args []instructions.ArgCommand, given map[string]string) []string {
	lex := shell.NewLex('\\')
	var env []string
	for _, command := range args {
		for _, arg := range command.Args {
			value, set := given[arg.Key]
			if !set && arg.Value != nil {
				value, _, _ = lex.ProcessWord(*arg.Value, shell.EnvsFromSlice(env))
			}
			env = append(env, arg.Key+"="+value)
		}
	}
	all := make([]string, len(stages))
	for n, s := range stages {
		word, _, err := lex.ProcessWord(s.BaseName, shell.EnvsFromSlice(env))
		if all[n] = word; err != nil || word == "" {
			all[n] = s.BaseName
		}
	}
	return all
}

// inspector follows what stages take from each other.
type inspector struct {
	stages []instructions.Stage
	bases  []string
	needed map[int]bool
}

func (i *inspector) need(n int) {
	if i.needed[n] {
		return
	}
	i.needed[n] = true
	i.from(n, i.bases[n], false)
	for _, command := range i.stages[n].Commands {
		switch c := command.(type) {
		case *instructions.CopyCommand:
			i.from(n, c.From, true)
		case *instructions.RunCommand:
			for _, m := range instructions.GetMounts(c) {
				i.from(n, m.From, true)
			}
		}
	}
}

// from needs the stage of that name, if there is one before stage n. Where a
// number stands for a stage, numbered says so.
func (i *inspector) from(n int, name string, numbered bool) {
	if name == "" {
		return
	}
	if number, err := strconv.Atoi(name); err == nil && numbered && number >= 0 && number < n {
		i.need(number)
		return
	}
	for before := n - 1; before >= 0; before-- {
		if strings.EqualFold(i.stages[before].Name, name) {
			i.need(before)
			return
		}
	}
}
