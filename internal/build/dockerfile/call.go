package dockerfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/subrequests/lint"

	"github.com/towline/towline/internal/build/progress"
	"github.com/towline/towline/internal/problem"
)

// The questions that a Dockerfile can be asked instead of being built: the
// values of the input "call".
const (
	CallCheck   = "check"
	CallOutline = "outline"
	CallTargets = "targets"
)

// Call asks a question and gives the answer as text. A check tells each finding
// as a progress.Warning too, and its error says that there are any.
func Call(ctx context.Context, opts Options, call string) (string, error) {
	opts = opts.withDefaults()
	request, ok := map[string]string{
		CallCheck: lint.RequestLint, CallOutline: "frontend.outline", CallTargets: "frontend.targets",
	}[call]
	if !ok {
		return "", &problem.Error{Op: "ask the Dockerfile", Input: "call", Value: call, Err: errors.New("there is no such call"), Fix: "Set it to build, check, outline or targets."}
	}
	frontend := frontendOptions(opts)
	frontend["requestid"] = request
	res, err := builder.Build(ctx, &gateway{opts: opts, frontend: frontend})
	if err != nil {
		return "", explain(ctx, err, opts.Display)
	}
	text := string(res.Metadata["result.txt"])
	if call != CallCheck {
		return text, nil
	}
	var results lint.LintResults
	if err := json.Unmarshal(res.Metadata["result.json"], &results); err != nil {
		return "", fmt.Errorf("frontend result: %w", err)
	}
	return text, findings(results, opts)
}

// findings tells what a check has found.
func findings(results lint.LintResults, opts Options) error {
	for _, w := range results.Warnings {
		warning := progress.Warning{File: opts.Display, Message: w.RuleName + ": " + w.Detail, Detail: w.Description, URL: w.URL}
		if ranges := w.Location.GetRanges(); len(ranges) > 0 {
			warning.Line = int(ranges[0].GetStart().GetLine())
		}
		opts.Progress.Emit(warning)
	}
	p := &problem.Error{Op: "check " + opts.Display, File: opts.Display}
	switch {
	case results.Error != nil:
		p.Err = errors.New(results.Error.Message)
		if ranges := results.Error.Location.GetRanges(); len(ranges) > 0 {
			p.Line = int(ranges[0].GetStart().GetLine())
		}
	case len(results.Warnings) > 0:
		p.Err = fmt.Errorf("%d findings", len(results.Warnings))
		p.Fix = "Correct them, or skip a rule with a line like \"# check=skip=RULE\" at the top of the Dockerfile."
	default:
		return nil
	}
	return p
}
