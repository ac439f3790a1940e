package main

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed engine.txt
var engineText string

const (
	ourModule   = "github.com/assylzhan-a/outboxie"
	libraryName = "outboxie" // the name of the package at the root
	ourService  = "outboxie"
)

// rules are the lines of engine.txt.
type rules struct {
	names                                []nameRule
	forgotten                            []*regexp.Regexp
	paths, wholes, links, deletes, words []string
}

type nameRule struct {
	keep    bool
	pattern *regexp.Regexp
}

func readRules(text string) (rules, error) {
	var r rules
	for number, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		kind, argument, _ := strings.Cut(line, " ")
		switch kind {
		case "keep", "rename":
			pattern, err := regexp.Compile(argument)
			if err != nil {
				return rules{}, fmt.Errorf("engine.txt, line %d: %w", number+1, err)
			}
			r.names = append(r.names, nameRule{keep: kind == "keep", pattern: pattern})
		case "forget":
			pattern, err := regexp.Compile("(?m)" + argument)
			if err != nil {
				return rules{}, fmt.Errorf("engine.txt, line %d: %w", number+1, err)
			}
			r.forgotten = append(r.forgotten, pattern)
		case "links":
			r.links = append(r.links, argument)
		case "path":
			r.paths = append(r.paths, argument)
		case "whole":
			r.wholes = append(r.wholes, argument)
		case "delete":
			r.deletes = append(r.deletes, argument)
		case "word":
			r.words = append(r.words, argument)
		default:
			return rules{}, fmt.Errorf("engine.txt, line %d: there is no kind %q", number+1, kind)
		}
	}
	return r, nil
}

func hasPrefix(file string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(file, prefix) {
			return true
		}
	}
	return false
}

// isEngine reports whether only the module's path changes in a file: a Go file at the top of the repository, or below a path of engine.txt.
func (r rules) isEngine(file string) bool {
	return strings.HasSuffix(file, ".go") && !strings.Contains(file, "/") || hasPrefix(file, r.paths)
}

var (
	anyService = regexp.MustCompile(`(?i)outboxie`)
	// ourPackage is the module's path. It goes on with a package, or it ends.
	ourPackage = regexp.MustCompile(regexp.QuoteMeta(ourModule) + `\b`)
	anService  = regexp.MustCompile(`\b([Aa])n( [` + "`" + `"]?)$`)
)

// keeps reports whether the engine's name stands at an offset of text.
func (r rules) keeps(text string, at int) bool {
	from, to := max(0, at-16), min(len(text), at+48)
	for _, rule := range r.names {
		for _, span := range rule.pattern.FindAllStringIndex(text[from:to], -1) {
			if from+span[0] <= at && at < from+span[1] {
				return rule.keep
			}
		}
	}
	return false
}

// renameModule replaces the module's path.
func (n names) renameModule(text string) string {
	return ourPackage.ReplaceAllLiteralString(text, n.module)
}

// renameService replaces the service's name, and keeps the engine's names.
func (n names) renameService(text string, r rules) string {
	var out strings.Builder
	done := 0
	for _, span := range anyService.FindAllStringIndex(text, -1) {
		if r.keeps(text, span[0]) {
			continue
		}
		gap := text[done:span[0]]
		if !takesAn(n.service) {
			gap = anService.ReplaceAllString(gap, "$1$2")
		}
		out.WriteString(gap + inCase(text[span[0]:span[1]], n.service))
		done = span[1]
	}
	return out.String() + text[done:]
}
