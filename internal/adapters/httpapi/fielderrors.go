package httpapi

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

const (
	maxFieldErrors = 20 // errors in one answer: a hostile request must not get a long answer
	maxNameLength  = 64 // bytes of an unknown name that the answer repeats
)

// fieldErrors collects all errors in the body and the parameters of one request.
type fieldErrors struct {
	list   []FieldError
	causes []*fault.Error
}

// invalidRequest is a fault with the fields that are wrong.
type invalidRequest struct {
	fault  *fault.Error
	fields []FieldError
}

func (i *invalidRequest) Error() string { return i.fault.Error() }
func (i *invalidRequest) Unwrap() error { return i.fault }

// addField adds an error about a member of the body.
func (f *fieldErrors) addField(name, reason string) {
	if !f.full() {
		f.list = append(f.list, inBody(name, reason))
	}
}

// full reports whether the answer has no room for more errors.
func (f *fieldErrors) full() bool { return len(f.list) >= maxFieldErrors }

func inBody(name, reason string) FieldError {
	pointer := "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(shortenName(name)) // RFC 6901
	return FieldError{Pointer: &pointer, Reason: reason}
}

// addParameter adds an error about a parameter in path, query or header.
func (f *fieldErrors) addParameter(name, reason string) {
	if f.full() {
		return
	}
	name = shortenName(name)
	f.list = append(f.list, FieldError{Parameter: &name, Reason: reason})
}

func shortenName(name string) string {
	if len(name) > maxNameLength {
		name = name[:maxNameLength] + "…"
	}
	return strings.ToValidUTF8(name, "")
}

// addError adds an error of the domain about the body, if err is not nil.
func (f *fieldErrors) addError(err error) { f.add(err, f.addField) }

// addParameterError adds an error of the domain about a parameter, if err is not nil.
func (f *fieldErrors) addParameterError(err error) { f.add(err, f.addParameter) }

func (f *fieldErrors) add(err error, blame func(name, reason string)) {
	var judged *fault.Error
	if errors.As(err, &judged) {
		f.causes = append(f.causes, judged)
		for _, field := range judged.Fields {
			blame(field.Name, field.Reason)
		}
	}
}

// err returns all errors as one fault, or nil if there are none. A single error of the domain keeps its own code.
func (f *fieldErrors) err() error {
	switch {
	case len(f.list) == 0:
		return nil
	case len(f.list) == 1 && len(f.causes) == 1:
		return &invalidRequest{f.causes[0], f.list}
	}
	return &invalidRequest{errRequest, f.list}
}

// readParameters lets a request through if its query is UTF-8, and every parameter in query and headers is given once.
func readParameters(c *gin.Context) {
	if !routed(c) {
		return
	}
	query, err := url.ParseQuery(c.Request.URL.RawQuery)
	if err != nil {
		refuse(c, errRequest.With("the query cannot be read"))
		return
	}
	var in fieldErrors
	for _, name := range slices.Sorted(maps.Keys(query)) {
		values := query[name]
		if !utf8.ValidString(name) || slices.ContainsFunc(values, func(text string) bool { return !utf8.ValidString(text) }) {
			in.addParameter(name, "is not UTF-8")
		}
		if len(values) > 1 {
			in.addParameter(name, "is given more than once")
		}
	}
	for _, name := range []string{keyHeader, matchHeader} {
		if len(c.Request.Header.Values(name)) > 1 {
			in.addParameter(name, "is given more than once")
		}
	}
	if err := in.err(); err != nil {
		refuse(c, err)
	}
}

// parameters has the query of a request and collects its errors.
type parameters struct {
	fieldErrors
	query url.Values
}

// parametersOf reads a query. A parameter that is not known is an error.
func parametersOf(c *gin.Context, known ...string) *parameters {
	in := &parameters{query: c.Request.URL.Query()}
	for _, name := range slices.Sorted(maps.Keys(in.query)) {
		if !slices.Contains(known, name) {
			in.addParameter(name, "is not known; known are "+strings.Join(known, ", "))
		}
	}
	return in
}

// ifGiven calls read with the value of a parameter, if it is given.
func (p *parameters) ifGiven(name string, read func(text string)) {
	if p.query.Has(name) {
		read(p.query.Get(name))
	}
}

// time returns the time in a parameter, or the zero time if the parameter is absent. The year has at most four digits, as databases need.
func (p *parameters) time(name string) (moment time.Time) {
	p.ifGiven(name, func(text string) {
		at, err := time.Parse(time.RFC3339, text)
		if year := at.UTC().Year(); err != nil || year < 1 || year > 9999 {
			reason := "must be a time such as 2026-11-25T08:00:00Z"
			if _, err := time.Parse(time.RFC3339, strings.Replace(text, " ", "+", 1)); err == nil && strings.Contains(text, " ") {
				reason += "; a + in a query means a space, so send %2B"
			}
			p.addParameter(name, reason)
			return
		}
		moment = at
	})
	return moment
}

// limit returns the parameter limit, which must be from 1 to most, or usual if the parameter is absent.
func (p *parameters) limit(usual, most int) int {
	p.ifGiven("limit", func(text string) {
		number, err := strconv.Atoi(text)
		if err != nil || number < 1 || number > most {
			p.addParameter("limit", "must be a whole number from 1 to "+strconv.Itoa(most))
			return
		}
		usual = number
	})
	return usual
}
