package infra

import (
	"errors"
	"fmt"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// RequireInSource fails the test unless each text is part of a string in the source of the programs. A test that requires that the program never
// prints a text calls RequireInSource: otherwise it would pass for ever when somebody changes the wording.
func RequireInSource(t testing.TB, texts ...string) {
	t.Helper()
	all, err := sourceStrings()
	if err != nil {
		t.Fatalf("read the source of the programs: %v", err)
	}
	for _, text := range missingIn(all, texts) {
		t.Errorf("no string in the source contains %q: use the program's present wording", text)
	}
}

// missingIn returns the texts that no string contains.
func missingIn(all, texts []string) (missing []string) {
next:
	for _, text := range texts {
		for _, one := range all {
			if strings.Contains(one, text) {
				continue next
			}
		}
		missing = append(missing, text)
	}
	return missing
}

// sourceStrings returns the strings in the Go files of cmd and internal, without tests.
var sourceStrings = sync.OnceValues(func() (all []string, err error) {
	root, err := moduleFolder()
	if err != nil {
		return nil, err
	}
	for _, folder := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			found, err := stringsIn(path)
			all = append(all, found...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
})

// moduleFolder returns the folder of go.mod. Tests run in the folder of their package.
func moduleFolder() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(filepath.Join(folder, "go.mod"))
		if !errors.Is(err, fs.ErrNotExist) {
			return folder, err
		}
		above := filepath.Dir(folder)
		if above == folder {
			return "", err
		}
		folder = above
	}
}

// stringsIn returns the string literals of a Go file.
func stringsIn(path string) (found []string, err error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s scanner.Scanner
	s.Init(token.NewFileSet().AddFile(path, -1, len(source)), source, nil, 0)
	for {
		_, kind, literal := s.Scan()
		switch kind {
		case token.EOF:
			if s.ErrorCount > 0 {
				return nil, fmt.Errorf("%s has syntax errors", path)
			}
			return found, nil
		case token.STRING:
			text, err := strconv.Unquote(literal)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", path, literal, err)
			}
			found = append(found, text)
		}
	}
}
