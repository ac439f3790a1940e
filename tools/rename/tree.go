package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"go/format"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// change is what becomes of one file.
type change struct {
	from, to      string // paths in the repository; to is empty if the file is deleted
	before, after []byte
	mode          fs.FileMode
}

// plan reads every file that git has, and returns the changes. It writes nothing.
func plan(root string, n names, r rules) ([]change, error) {
	files, err := git(root, "ls-files", "-z")
	if err != nil {
		return nil, err
	}
	var changes []change
	for _, file := range strings.Split(strings.TrimRight(files, "\x00"), "\x00") {
		info, err := os.Lstat(filepath.Join(root, file))
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			continue
		}
		before, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return nil, err
		}
		c := change{from: file, before: before, mode: info.Mode().Perm()}
		if !hasPrefix(file, r.deletes) {
			c.to, c.after, err = n.file(file, before, r)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
		}
		if c.to != c.from || !bytes.Equal(c.before, c.after) || path.Base(file) == sums {
			changes = append(changes, c)
		}
	}
	return changes, sumAgain(root, changes)
}

// sums is the name of a file with the checksums of the files in its folder. Nobody has published anything in the name of the copy yet, so
// the checksums of the renamed files are right.
const sums = "SHA256SUMS"

// sumAgain computes the checksums in each file of sums again.
func sumAgain(root string, changes []change) error {
	content := make(map[string][]byte)
	for _, c := range changes {
		content[c.to] = c.after
	}
	for i, c := range changes {
		if path.Base(c.to) != sums {
			continue
		}
		var lines []string
		for line := range strings.Lines(string(c.after)) {
			_, file, found := strings.Cut(strings.TrimSpace(line), "  ")
			if !found {
				return fmt.Errorf("%s has the line %q, which is no checksum", c.from, line)
			}
			text, changed := content[path.Join(path.Dir(c.to), file)]
			if !changed {
				var err error
				if text, err = os.ReadFile(filepath.Join(root, path.Dir(c.to), file)); err != nil {
					return err
				}
			}
			lines = append(lines, fmt.Sprintf("%x  %s\n", sha256.Sum256(text), file))
		}
		slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[2*sha256.Size:], b[2*sha256.Size:]) })
		changes[i].after = []byte(strings.Join(lines, ""))
	}
	return nil
}

// file returns the new path and content of a file.
func (n names) file(file string, content []byte, r rules) (string, []byte, error) {
	if hasPrefix(file, r.wholes) || bytes.IndexByte(content, 0) >= 0 || !utf8.Valid(content) {
		return file, content, nil
	}
	to := file
	kept := r.withoutForgotten(string(content))
	text := kept
	switch {
	case hasPrefix(file, r.links):
		text = n.links(text, r)
	case r.isExample(file):
		text = n.imports(text)
	case r.isEngine(file):
		text = n.renameModule(n.renameAggregate(text, code(file, text)))
	default:
		to = n.path(file, r)
		text = n.renameService(n.renameModule(n.renameAggregate(text, code(file, text))), r)
	}
	switch path.Ext(file) {
	case ".go":
		text = n.nameLibrary(text)
		formatted, err := format.Source([]byte(alignedInGo(kept, text)))
		return to, formatted, err
	case ".md", ".txt":
		text = aligned(kept, text)
	}
	return to, []byte(text), nil
}

// nameLibrary names the import of the engine's public package: the last part of the new path is not the package's name any more.
func (n names) nameLibrary(source string) string {
	if path.Base(n.module) == libraryName {
		return source
	}
	return strings.ReplaceAll(source, "\n\t\""+n.module+"\"\n", "\n\t"+libraryName+" \""+n.module+"\"\n")
}

// path returns the new path of a file. The hyphens of a file's name stand for spaces.
func (n names) path(file string, r rules) string {
	return n.renameService(n.renameAggregate(file, func(int) bool { return false }), r)
}

// isExample reports whether a file shows the use of the engine by a service with aggregates of its own.
func (r rules) isExample(file string) bool { return strings.HasPrefix(file, "examples/") }

var ourImport = regexp.MustCompile(regexp.QuoteMeta(ourModule) + `[\w./-]*`)

// imports changes only the paths of this module's packages.
func (n names) imports(text string) string {
	return ourImport.ReplaceAllStringFunc(text, func(found string) string {
		return n.renameModule(n.renameAggregate(found, func(int) bool { return true }))
	})
}

var link = regexp.MustCompile(`\]\([^)\s:]+\)`)

// links changes only the links of Markdown to other files.
func (n names) links(text string, r rules) string {
	return link.ReplaceAllStringFunc(text, func(found string) string { return n.path(found, r) })
}

var cut = regexp.MustCompile(`(?ms)^[^\n]*rename:cut-begin.*?rename:cut-end[^\n]*\n`)

// withoutForgotten removes what only this project needs: what matches a line of engine.txt, and the lines from one that contains rename:cut-begin
// to one that contains rename:cut-end.
func (r rules) withoutForgotten(text string) string {
	text = cut.ReplaceAllString(text, "")
	for _, pattern := range r.forgotten {
		text = pattern.ReplaceAllString(text, "")
	}
	return text
}

// code returns which bytes of a Go file are neither comments nor strings. Other files have no code.
func code(file, text string) func(offset int) bool {
	if path.Ext(file) != ".go" {
		return func(int) bool { return false }
	}
	prose := make([]bool, len(text)+1)
	set := token.NewFileSet()
	source := set.AddFile(file, set.Base(), len(text))
	var s scanner.Scanner
	s.Init(source, []byte(text), nil, scanner.ScanComments)
	for {
		pos, kind, literal := s.Scan()
		if kind == token.EOF {
			return func(offset int) bool { return !prose[offset] }
		}
		if kind == token.COMMENT || kind == token.STRING || kind == token.CHAR {
			from := source.Offset(pos)
			for i := from; i < min(len(text), from+len(literal)); i++ {
				prose[i] = true
			}
		}
	}
}

// apply makes the changes. If one fails, it undoes those before it.
func apply(root string, changes []change) error {
	for done, c := range changes {
		if err := c.do(root); err != nil {
			return errors.Join(err, undo(root, changes[:done+1]))
		}
	}
	return nil
}

func (c change) do(root string) error {
	if c.to != c.from {
		if err := os.Remove(filepath.Join(root, c.from)); err != nil {
			return err
		}
		removeEmpty(root, path.Dir(c.from))
	}
	if c.to == "" {
		return nil
	}
	return write(root, c.to, c.after, c.mode)
}

func undo(root string, changes []change) error {
	var failed []error
	for _, c := range changes {
		if c.to != "" && c.to != c.from {
			_ = os.Remove(filepath.Join(root, c.to)) // it may not have been written
			removeEmpty(root, path.Dir(c.to))
		}
	}
	for _, c := range changes {
		failed = append(failed, write(root, c.from, c.before, c.mode))
	}
	return errors.Join(failed...)
}

func write(root, file string, content []byte, mode fs.FileMode) error {
	name := filepath.Join(root, file)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name, content, mode); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}

// removeEmpty removes a folder and its parents as long as they are empty.
func removeEmpty(root, folder string) {
	for ; folder != "." && os.Remove(filepath.Join(root, folder)) == nil; folder = path.Dir(folder) {
	}
}

func git(root string, args ...string) (string, error) {
	command := exec.Command("git", args...)
	command.Dir = root
	output, err := command.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return "", fmt.Errorf("git %s: %s", args[0], strings.TrimSpace(string(exit.Stderr)))
	}
	return string(output), err
}
