package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// File has the settings of a file with a line NAME=value for each of them, as systemd and Docker read such files.
type File struct {
	Path      string
	Variables []string     // NAME=value, as in an environment
	Exposed   bool         // users outside the file's group may read it
	lines     map[Name]int // where each setting is
}

// maxFile bounds what ReadFile reads: a file of settings is small.
const maxFile = 1 << 20

// ReadFile reads a file of settings. Empty lines and lines that begin with # do not count. Quotes around a whole value do not belong to it. The
// error is an *Error with all problems. A problem names the file and the line, and no value, because a value can be a secret.
func ReadFile(path string) (File, error) {
	file := File{Path: path, lines: make(map[Name]int)}
	text, err := readSmall(path)
	if err != nil {
		return file, &Error{Problems: []Problem{{Text: err.Error()}}}
	}
	if info, err := os.Stat(path); err == nil {
		file.Exposed = info.Mode().Perm()&0o004 != 0
	}
	var problems []Problem
	for number, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if problem := file.add(number+1, line); problem != "" {
			problems = append(problems, Problem{Text: fmt.Sprintf("%s:%d: %s", path, number+1, problem)})
		}
	}
	if len(problems) > 0 {
		return file, &Error{Problems: problems}
	}
	return file, nil
}

func readSmall(path string) (string, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() && info.Mode()&os.ModeNamedPipe == 0 {
		return "", fmt.Errorf("%s cannot be read: it is not a file", path)
	}
	if err == nil && info.Size() > maxFile {
		return "", fmt.Errorf("%s cannot be read: it has more than %d bytes, so it is not a file of settings", path, maxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		var reason *fs.PathError
		if errors.As(err, &reason) {
			err = reason.Err
		}
		return "", fmt.Errorf("%s cannot be read: %w", path, err)
	}
	return string(text), nil
}

// add takes one line, and returns what is wrong with it.
func (f *File) add(number int, line string) string {
	name, value, found := strings.Cut(line, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	s, known := find(Name(name))
	switch {
	case !found:
		return "the line must have the form NAME=value"
	case !identifier(name):
		return "the line must begin with the name of a setting, and have the form NAME=value"
	case !known || s.flagOnly():
		return name + " is not a setting; `outboxie config` lists them"
	case f.lines[s.name] != 0:
		return fmt.Sprintf("%s is set in line %d already", name, f.lines[s.name])
	}
	if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
		value = value[1 : n-1]
	}
	f.lines[s.name] = number
	f.Variables = append(f.Variables, name+"="+value)
	return ""
}

// Locate adds the file, and the line if there is one, to each problem of a configuration that was made with the file.
func (f File) Locate(err error) error {
	var found *Error
	if !errors.As(err, &found) {
		return err
	}
	located := &Error{}
	for _, problem := range found.Problems {
		where := f.Path
		if line := f.lines[problem.Name]; line != 0 {
			where = fmt.Sprintf("%s:%d", f.Path, line)
		}
		located.Problems = append(located.Problems, Problem{Name: problem.Name, Text: where + ": " + problem.Text})
	}
	return located
}
