package config

import (
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Source names where the value of a setting comes from.
type Source string

// The sources, weakest first.
const (
	FromDefault     Source = "default"
	FromEnvironment Source = "environment"
	FromFlag        Source = "flag"
	FromCode        Source = "code"
)

// Setting is one effective setting. Value does not show secrets.
type Setting struct {
	Name   Name
	Value  string
	Source Source
}

// Settings lists every setting, and the OTEL_* variables after them.
func (c Config) Settings() []Setting {
	var list []Setting
	for _, s := range settings {
		list = append(list, Setting{Name: s.name, Value: c.shown(s.name), Source: c.Source(s.name)})
	}
	if c.built == nil {
		return list
	}
	return append(list, c.built.telemetry...)
}

// Source returns where the value of a setting comes from. If no Builder made the Config, everything comes from code.
func (c Config) Source(name Name) Source {
	if c.built == nil {
		return FromCode
	}
	origin := c.built.origins[name]
	switch {
	case origin.text != c.text(name):
		return FromCode
	case origin.source == "":
		return FromDefault
	}
	return origin.source
}

// Given reports whether the value comes from another source than the default. The value may equal the default.
func (c Config) Given(name Name) bool { return c.Source(name) != FromDefault }

// Print writes the effective settings as a table, with secrets hidden.
func (c Config) Print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SETTING\tVALUE\tFROM")
	for _, s := range c.Settings() {
		fmt.Fprintf(table, "%s\t%s\t%s\n", s.Name, s.Value, s.Source)
	}
	return table.Flush()
}

// Warnings returns a warning for each ignored variable of the environment: it looks like a setting but is not one.
func (c Config) Warnings() []string {
	if c.built == nil {
		return nil
	}
	var warnings []string
	for _, name := range c.built.unknown {
		warnings = append(warnings, name+" is not a setting and was ignored; `outboxie config` lists them")
	}
	return warnings
}

// Validate checks a Config that code made. It returns an *Error with all problems.
func (c Config) Validate(required ...Name) error {
	if problems := c.problems(required); len(problems) > 0 {
		return &Error{Problems: problems}
	}
	return nil
}

// Problem is a wrong setting. Its text names the setting, the value, and what is accepted.
type Problem struct {
	Name Name
	Text string
}

// Error has all problems of a configuration.
type Error struct {
	Problems []Problem
}

// Error returns one line for each problem.
func (e *Error) Error() string {
	var text strings.Builder
	text.WriteString("the configuration is wrong:")
	for _, problem := range e.Problems {
		text.WriteString("\n  " + problem.Text)
	}
	return text.String()
}

func (c Config) problems(required []Name) []Problem {
	var problems []Problem
	for _, s := range settings {
		switch {
		case slices.Contains(required, s.name) && c.text(s.name) == "":
			problems = append(problems, Problem{s.name, fmt.Sprintf("%s is not set; it must be %s", s, s.accepts)})
		case s.ok != nil && !s.ok(c):
			problems = append(problems, s.problem(c.Source(s.name), c.text(s.name)))
		}
	}
	return problems
}

// problem returns the problem of a wrong value.
func (s setting) problem(source Source, value string) Problem {
	label := string(s.name)
	if source == FromFlag {
		label = "--" + s.flag
	}
	// The value may be a key or credentials, given by mistake instead of the name of their file.
	if value = strconv.Quote(value); s.secret || strings.Contains(value, "-----BEGIN") {
		value = hidden
	}
	return Problem{s.name, fmt.Sprintf("%s is %s; it must be %s", label, value, s.accepts)}
}

// text returns the value of a setting as it is written, with its secrets.
func (c Config) text(name Name) string {
	switch value := c.value(reflect.ValueOf(c), name).(type) {
	case URL:
		return string(value)
	case Secret:
		return string(value)
	case slog.Level:
		return strings.ToLower(value.String())
	default:
		return fmt.Sprint(value)
	}
}

func (c Config) shown(name Name) string {
	if s, _ := find(name); s.secret {
		return fmt.Sprint(c.value(reflect.ValueOf(c), name))
	}
	return c.text(name)
}

// value returns the value of the field whose tag is name.
func (c Config) value(section reflect.Value, name Name) any {
	for field, value := range section.Fields() {
		switch tag := field.Tag.Get("env"); {
		case tag == string(name):
			return value.Interface()
		case tag == "" && field.IsExported() && value.Kind() == reflect.Struct:
			if found := c.value(value, name); found != nil {
				return found
			}
		}
	}
	return nil
}
