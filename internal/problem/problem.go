// Package problem holds the error that a user reads.
//
// Every failure that leaves Towline is one Error: what was being done, which
// input it concerns, what the service said, and what to do about it.
package problem

import (
	"errors"
	"fmt"
	"strings"
)

// Error explains one failure to a user.
type Error struct {
	// Op says what was being done, as a verb and its object: "assume role".
	Op string
	// Input is the name of the action's input that is concerned, or empty.
	Input string
	// Value is what Input was set to. Never a secret.
	Value string
	// Err is the cause in the service's own words, with its code and request ID.
	Err error
	// Fix is one imperative sentence, or a snippet to paste, or empty.
	Fix string
	// File is the path, relative to the workspace, of the file at fault, or empty.
	File string
	// Line is the line in File, counted from 1; 0 when it is unknown.
	Line int
	// Detail holds further lines worth reading: the last output of a command,
	// the events of a service. They may be untrusted text.
	Detail []string
}

// Error gives the whole sentence: operation, input, cause, remedy.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Input != "" {
		fmt.Fprintf(&b, ": input %q", e.Input)
		if e.Value != "" {
			fmt.Fprintf(&b, " is %q", e.Value)
		}
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.Fix != "" {
		// A service's own words may end in a full stop already.
		return strings.TrimSuffix(b.String(), ".") + ". " + e.Fix
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// All lists every Error in err's tree, outermost first. An error that holds
// none is wrapped as one with the operation op, so that nothing is lost.
func All(op string, err error) []*Error {
	if err == nil {
		return nil
	}
	var found []*Error
	var walk func(error)
	walk = func(err error) {
		var e *Error
		if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // the tree itself is walked here
			for _, each := range joined.Unwrap() {
				walk(each)
			}
			return
		}
		if errors.As(err, &e) {
			found = append(found, e)
			return
		}
		found = append(found, &Error{Op: op, Err: err})
	}
	walk(err)
	return found
}
