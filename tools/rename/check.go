package main

import (
	"errors"
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var (
	moduleHost = regexp.MustCompile(`\A[a-z0-9-]+(\.[a-z0-9-]+)+\z`)
	moduleRest = regexp.MustCompile(`\A[A-Za-z0-9_~-][A-Za-z0-9._~-]*\z`)
	plainWord  = regexp.MustCompile(`\A[a-z][a-z0-9]{1,29}\z`)
	plainNoun  = regexp.MustCompile(`\A[a-z]{2,30}\z`)
)

// reserved are words that Postgres does not accept as the name of a table or a role without quotes.
var reserved = strings.Fields(`all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create current_date
	default deferrable desc distinct do else end except false fetch for foreign from grant group having in initially intersect into lateral leading
	limit localtime not null offset on only or order placing primary references returning select some symmetric table then to trailing true union
	unique user using variadic when where window with`)

// check returns what is wrong with the names.
func (n names) check(r rules) (wrong []error) {
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	switch parts := strings.Split(n.module, "/"); {
	case n.module == "":
		add("MODULE is missing: name the path of the new Go module, such as MODULE=example.com/acme/billing")
	case n.module == ourModule || strings.HasPrefix(n.module, ourModule+"/"):
		add("MODULE=%s is the module of this project: choose another one", n.module)
	case len(parts) < 2 || !moduleHost.MatchString(parts[0]) ||
		slices.ContainsFunc(parts[1:], func(part string) bool { return !moduleRest.MatchString(part) || strings.HasSuffix(part, ".") }):
		add("MODULE=%s is not the path of a Go module: write a host with a dot and a path, such as example.com/acme/billing", n.module)
	}
	switch {
	case n.service == "":
		add("NAME is missing: name the service, such as NAME=billing")
	case !plainWord.MatchString(n.service) || token.IsKeyword(n.service) || slices.Contains(reserved, n.service):
		add("NAME=%s cannot name a program, a Go identifier and a database: write one word of 2 to 30 lower-case letters and digits", n.service)
	case strings.Contains(n.service, ourService) || slices.Contains(r.words, n.service):
		add("NAME=%s is a name of the engine: choose another one", n.service)
	}
	if n.singular == "" {
		add("AGGREGATE is missing: name the aggregate, such as AGGREGATE=invoice")
		return wrong
	}
	for _, w := range []struct{ variable, value string }{{"AGGREGATE", n.singular}, {"PLURAL", n.plural}, {"ACTIVITY", n.activity}} {
		switch {
		case !plainNoun.MatchString(w.value) || token.IsKeyword(w.value) || slices.Contains(reserved, w.value):
			add("%s=%s cannot name a Go package and a table: write one word of lower-case letters", w.variable, w.value)
		case strings.Contains(w.value, "order"):
			add("%s=%s contains the word that is renamed: choose another one", w.variable, w.value)
		case slices.ContainsFunc(r.words, func(word string) bool { return w.value == word || w.value == plural(word) }):
			add("%s=%s is a word of the engine: choose another one", w.variable, w.value)
		}
	}
	if n.singular == n.plural || n.activity == n.singular || n.activity == n.plural {
		add("AGGREGATE=%s, PLURAL=%s and ACTIVITY=%s have to be three different words", n.singular, n.plural, n.activity)
	}
	if n.service == n.singular || n.service == n.plural || n.service == n.activity {
		add("NAME=%s has to differ from AGGREGATE, PLURAL and ACTIVITY (%s)", n.service, n.activity)
	}
	return wrong
}

var moduleLine = regexp.MustCompile(`(?m)^module (\S+)`)

// checkTree refuses a folder that is not this project, that was renamed before, or that has changes which are not committed.
func checkTree(root string) error {
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return err
	}
	if module := moduleLine.FindSubmatch(text); module == nil || string(module[1]) != ourModule {
		return fmt.Errorf("this is not a copy of %s, or it was renamed before: its go.mod says %q", ourModule, moduleLine.FindString(string(text)))
	}
	status, err := git(root, "status", "--porcelain")
	if err != nil {
		return fmt.Errorf("the rename needs a git repository, so that you can see what it did: %w", err)
	}
	if status != "" {
		return errors.New("the work tree has changes that are not committed: commit or remove them first\n" + strings.TrimRight(status, "\n"))
	}
	return nil
}

// checkClashes refuses a rename by which two files, or two identifiers of one Go package, get the same name.
func checkClashes(root string, changes []change) error {
	owner := make(map[string]string)
	for _, c := range changes {
		if c.to == "" {
			continue
		}
		if other, taken := owner[c.to]; taken {
			return fmt.Errorf("%s and %s would both become %s: choose another name", other, c.from, c.to)
		}
		owner[c.to] = c.from
		if _, err := os.Lstat(filepath.Join(root, c.to)); err == nil && c.to != c.from {
			return fmt.Errorf("%s would become %s, which exists: choose another name", c.from, c.to)
		}
	}
	type identifier struct{ folder, name string }
	present, renamed := make(map[identifier]string), make(map[identifier]string)
	for _, c := range changes {
		if c.to == "" || path.Ext(c.from) != ".go" {
			continue
		}
		before, after := identifiers(c.from, c.before), identifiers(c.to, c.after)
		for name := range before {
			present[identifier{path.Dir(c.from), name}] = c.from
		}
		for name := range after {
			if _, old := before[name]; !old {
				renamed[identifier{path.Dir(c.from), name}] = c.from
			}
		}
	}
	for id, file := range renamed {
		if other, taken := present[id]; taken {
			return fmt.Errorf("an identifier in %s would become %s, which %s has with another meaning: choose another name", file, id.name, other)
		}
	}
	return nil
}

// identifiers returns the identifiers of a Go file.
func identifiers(file string, text []byte) map[string]bool {
	set := token.NewFileSet()
	found := make(map[string]bool)
	var s scanner.Scanner
	s.Init(set.AddFile(file, set.Base(), len(text)), text, nil, 0)
	for {
		_, kind, literal := s.Scan()
		switch kind {
		case token.EOF:
			return found
		case token.IDENT:
			found[literal] = true
		}
	}
}
