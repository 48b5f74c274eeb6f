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
		b.WriteString(": " + words(e.Err))
	}
	if e.Fix != "" {
		// A service's own words may end in a full stop already.
		return strings.TrimSuffix(b.String(), ".") + ". " + e.Fix
	}
	return b.String()
}

// words is err's text, in which the answer of an AWS service stands as
// "CODE: message (request ID)" instead of what the SDK wraps around it.
func words(err error) string {
	text := err.Error()
	var operation interface{ Operation() string }
	var answer interface {
		ErrorCode() string
		ErrorMessage() string
	}
	if !errors.As(err, &operation) || !errors.As(err, &answer) {
		return text
	}
	wrapped, ok := operation.(error)
	if !ok || answer.ErrorCode() == "" {
		return text
	}
	if inner, ok := errors.AsType[*Error](wrapped); ok { // why the operation could not be signed, say
		return strings.Replace(text, wrapped.Error(), inner.Error(), 1)
	}
	said := strings.TrimSuffix(answer.ErrorCode()+": "+strings.TrimRight(answer.ErrorMessage(), ". "), ": ")
	var request interface{ ServiceRequestID() string }
	if errors.As(err, &request) && request.ServiceRequestID() != "" {
		said += " (request " + request.ServiceRequestID() + ")"
	}
	return strings.Replace(text, wrapped.Error(), said, 1)
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
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, each := range joined.Unwrap() {
				walk(each)
			}
			return
		}
		if e, ok := errors.AsType[*Error](err); ok {
			found = append(found, e)
			return
		}
		found = append(found, &Error{Op: op, Err: err})
	}
	walk(err)
	return found
}
