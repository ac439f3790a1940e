// Package fault is the error vocabulary of the whole program: a kind that decides what to do, a stable code that
// programs may match, and a detail for people.
//
// Adapters translate what their libraries report into a fault at their edge; an error that nobody translated counts as
// Internal. Nothing above an adapter ever inspects a driver's error.
package fault

import (
	"errors"
	"fmt"
)

// Kind says what whoever receives the error can do about it.
type Kind int

// The kinds, from "nobody knows" to "never try again".
const (
	Internal    Kind = iota // unclassified: a bug, or a failure nobody foresaw
	Invalid                 // the request is wrong; it must be changed before it is sent again
	NotFound                // what was asked for does not exist
	Conflict                // somebody else was first, or the present state forbids it; look again before trying again
	Unavailable             // transient: the same call may succeed later
	Refused                 // permanent for this message: no retry can help it
)

// String names the kind in lower case.
func (k Kind) String() string {
	switch k {
	case Invalid:
		return "invalid"
	case NotFound:
		return "not_found"
	case Conflict:
		return "conflict"
	case Unavailable:
		return "unavailable"
	case Refused:
		return "refused"
	case Internal:
	}
	return "internal"
}

// Field is one thing that is wrong with an Invalid request.
type Field struct {
	Name   string // where it is, as the caller wrote it: amount, customer_id
	Reason string // why it was refused, and what would be accepted
}

// Error is a classified error. Two Errors are the same for errors.Is when their codes are equal.
type Error struct {
	Kind   Kind
	Code   string // stable, snake_case: part of the public contract
	Detail string
	Fields []Field
	cause  error
}

// New returns a fault without a cause.
func New(kind Kind, code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Wrap returns a copy of f that carries cause: errors.Is finds both.
func (f *Error) Wrap(cause error) *Error {
	wrapped := *f
	wrapped.cause = cause
	return &wrapped
}

// With returns a copy of f with another detail.
func (f *Error) With(format string, args ...any) *Error {
	detailed := *f
	detailed.Detail = fmt.Sprintf(format, args...)
	return &detailed
}

// On returns a copy of f that blames a field of the request.
func (f *Error) On(field, reason string) *Error {
	blamed := *f
	blamed.Fields = append(append([]Field(nil), f.Fields...), Field{Name: field, Reason: reason})
	return &blamed
}

// Error gives the detail, the cause if there is one, and the code if there is nothing else to say.
func (f *Error) Error() string {
	text := f.Detail
	if text == "" {
		text = f.Code
	}
	if f.cause != nil {
		return text + ": " + f.cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (f *Error) Unwrap() error { return f.cause }

// Is reports whether target is a fault with the same code.
func (f *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == f.Code
}

// KindOf returns the kind of the first fault in err's chain, and Internal when there is none.
func KindOf(err error) Kind {
	var f *Error
	if errors.As(err, &f) {
		return f.Kind
	}
	return Internal
}
