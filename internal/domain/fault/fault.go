// Package fault is the error vocabulary of the whole program: each error has a kind that decides what to do, a stable code that
// programs may match, and a detail for people.
//
// An adapter translates the errors of its library into faults. Code above the adapters checks only the kind (KindOf) or the code
// (errors.Is). An error that is not a fault counts as Internal.
package fault

import (
	"errors"
	"fmt"
)

// Kind says what the receiver of an error can do about it.
type Kind int

// The kinds of errors.
const (
	Internal    Kind = iota // not classified: a bug, or a failure that nobody expected
	Invalid                 // the request is wrong; it must be changed before it is sent again
	NotFound                // the request names something that does not exist
	Conflict                // somebody else was first, or the present state forbids it; read the state again before the next try
	Unavailable             // transient: the same call may succeed later
	Refused                 // permanent for this message; no retry helps
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

// Field is one error in an Invalid request.
type Field struct {
	Name   string // as the caller wrote it: amount, customer_id
	Reason string // why the value was refused, and which values are accepted
}

// Error is a classified error. errors.Is treats Errors with the same code as equal.
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

// Wrap returns a copy of f with a cause. errors.Is finds both f and the cause.
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

// On returns a copy of f with one more Field: a field of the request, and the reason why its value was refused.
func (f *Error) On(field, reason string) *Error {
	blamed := *f
	blamed.Fields = append(append([]Field(nil), f.Fields...), Field{Name: field, Reason: reason})
	return &blamed
}

// Error returns the detail and the cause. Without a detail it returns the code instead.
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

// KindOf returns the kind of the first fault in err's chain, or Internal if the chain has no fault.
func KindOf(err error) Kind {
	var f *Error
	if errors.As(err, &f) {
		return f.Kind
	}
	return Internal
}
