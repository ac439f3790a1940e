// Command forget removes from the documents what a deletion left behind: each line of a Markdown file that links to a file which is gone, names a
// test which is gone, or lists a module which is not needed any more. Run it after you have deleted a part of the service, and read
// `git diff` afterwards: what stood beside such a line may need other words.
//
// With -target, it also removes a target from the Makefile, and the lines of the documents that name the target.
package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	var targets []string
	root := flag.String("root", ".", "folder of the repository")
	flag.Func("target", "a target of the Makefile that is removed; may be repeated", func(target string) error {
		targets = append(targets, target)
		return nil
	})
	flag.Parse()
	if err := run(*root, targets); err != nil {
		fmt.Fprintln(os.Stderr, "forget:", err)
		os.Exit(1)
	}
}

func run(root string, targets []string) error {
	tests, err := testsIn(root)
	if err != nil {
		return err
	}
	tidy := exec.Command("go", "mod", "tidy")
	tidy.Dir = root
	if output, err := tidy.CombinedOutput(); err != nil {
		return fmt.Errorf("go mod tidy: %w\n%s", err, output)
	}
	modules, err := modulesOf(filepath.Join(root, "go.mod"))
	if err != nil {
		return err
	}
	if err := forgetTargets(filepath.Join(root, "Makefile"), targets); err != nil {
		return err
	}
	pages, err := exec.Command("git", "-C", root, "ls-files", "*.md").Output()
	if err != nil {
		return err
	}
	for _, page := range strings.Fields(string(pages)) {
		name := filepath.Join(root, page)
		text, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		kept, forgotten := string(text), []string(nil)
		switch page {
		case "CHANGELOG.md": // tells what was
			kept, forgotten = unlink(kept, filepath.Dir(name))
		case "docs/dependencies.md":
			kept, forgotten = forgetModules(kept, modules)
		}
		if page != "CHANGELOG.md" {
			var more []string
			kept, more = forget(kept, filepath.Dir(name), tests, targets)
			forgotten = append(forgotten, more...)
		}
		for _, line := range forgotten {
			fmt.Printf("%s: %.120s\n", page, line)
		}
		if len(forgotten) > 0 {
			if err := os.WriteFile(name, []byte(kept), 0o644); err != nil { //nolint:gosec // everybody may read a document
				return err
			}
		}
	}
	return nil
}

var (
	link  = regexp.MustCompile(`\]\(([^)\s:#]+)(?:#[^)\s]*)?\)`)
	test  = regexp.MustCompile(`\b((?:Test|Benchmark|Fuzz)[A-Z]\w+)(…?)`)
	fence = regexp.MustCompile("^\\s*```")
)

// forget returns a document of a folder without the lines that something is missing for, and these lines.
func forget(text, folder string, tests map[string]bool, targets []string) (kept string, forgotten []string) {
	var out strings.Builder
	inFence := false
	for line := range strings.Lines(text) {
		if fence.MatchString(line) {
			inFence = !inFence
		}
		if short := shortened(line, tests, targets); !inFence && short != line {
			forgotten = append(forgotten, strings.TrimSpace(line))
			line = short
		}
		if !inFence && isAboutNothing(line, folder, tests) || namesTarget(line, targets) {
			forgotten = append(forgotten, strings.TrimSpace(line))
			continue
		}
		out.WriteString(line)
	}
	return out.String(), forgotten
}

var required = regexp.MustCompile(`(?m)^(?:require )?\s*(\S+) v\S+$`)

// modulesOf returns the modules that a go.mod requires directly.
func modulesOf(file string) (map[string]bool, error) {
	text, err := os.ReadFile(file)
	modules := make(map[string]bool)
	for _, found := range required.FindAllSubmatch(text, -1) {
		modules[string(found[1])] = true
	}
	return modules, err
}

var row = regexp.MustCompile("(?m)^\\| ((?:`[^`|]+`(?:, )?)+) (\\|.*\n)")

// forgetModules removes the modules that go.mod does not require from a table, and the rows that are left without any.
func forgetModules(text string, modules map[string]bool) (kept string, rows []string) {
	kept = row.ReplaceAllStringFunc(text, func(found string) string {
		cells := row.FindStringSubmatch(found)
		var left []string
		for name := range strings.SplitSeq(cells[1], ", ") {
			if modules[strings.Trim(name, "`")] {
				left = append(left, name)
			}
		}
		listed := strings.Join(left, ", ")
		switch listed {
		case cells[1]:
			return found
		case "":
			rows = append(rows, strings.TrimSpace(found))
			return ""
		}
		rows = append(rows, strings.TrimSpace(found))
		return "| " + listed + " " + cells[2]
	})
	return kept, rows
}

var labeled = regexp.MustCompile(`\[([^\]]*)\]\(([^)\s:#]+)(?:#[^)\s]*)?\)`)

// unlink replaces the links of a document to files that are gone by their labels.
func unlink(text, folder string) (kept string, links []string) {
	kept = labeled.ReplaceAllStringFunc(text, func(found string) string {
		parts := labeled.FindStringSubmatch(found)
		if _, err := os.Stat(filepath.Join(folder, parts[2])); err == nil {
			return found
		}
		links = append(links, found)
		return parts[1]
	})
	return kept, links
}

func isAboutNothing(line, folder string, tests map[string]bool) bool {
	for _, found := range link.FindAllStringSubmatch(line, -1) {
		if _, err := os.Stat(filepath.Join(folder, found[1])); err != nil {
			return true
		}
	}
	for _, found := range test.FindAllStringSubmatch(line, -1) {
		if found[2] == "" && !tests[found[1]] || found[2] != "" && !hasPrefix(tests, found[1]) {
			return true
		}
	}
	return false
}

// mention is a test or a target of make in a list, with what is said about it in parentheses.
var mention = regexp.MustCompile("(?:[;,] (?:and )?)?`((?:[a-z]+\\.)?(?:Test|Benchmark|Fuzz)[A-Z]\\w+|make [a-z-]+)`(?: \\([^)]*\\))?")

// shortened returns a line without the tests and targets that are gone, if it still names a test then. Otherwise it returns the line.
func shortened(line string, tests map[string]bool, targets []string) string {
	short := mention.ReplaceAllStringFunc(line, func(found string) string {
		name := mention.FindStringSubmatch(found)[1]
		target, isTarget := strings.CutPrefix(name, "make ")
		if isTarget && slices.Contains(targets, target) || !isTarget && !tests[name[strings.LastIndex(name, ".")+1:]] {
			return ""
		}
		return found
	})
	if !test.MatchString(short) {
		return line
	}
	return strings.Replace(short, "** , ", "** ", 1)
}

func namesTarget(line string, targets []string) bool {
	return slices.ContainsFunc(targets, func(target string) bool {
		return regexp.MustCompile(`\bmake ` + target + `([^a-z-]|$)`).MatchString(line)
	})
}

// forgetTargets removes targets from a Makefile, and from the lines that make them.
func forgetTargets(makefile string, targets []string) error {
	if len(targets) == 0 {
		return nil
	}
	text, err := os.ReadFile(makefile)
	if err != nil {
		return err
	}
	for _, target := range targets {
		block := regexp.MustCompile(`(?m)^\.PHONY: ` + target + `\n(?:.+\n)+\n?`)
		if !block.Match(text) {
			return fmt.Errorf("the Makefile has no target %s", target)
		}
		text = block.ReplaceAll(text, nil)
		text = regexp.MustCompile(`(?m)^(ci:.*|\t@?\$\(MAKE\).*) `+target+`( .*)?$`).ReplaceAll(text, []byte("$1$2"))
	}
	return os.WriteFile(makefile, text, 0o644) //nolint:gosec // everybody may read a Makefile
}

func hasPrefix(tests map[string]bool, prefix string) bool {
	for name := range tests {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

var declared = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)\w+)\(`)

// testsIn returns the names of all tests.
func testsIn(root string) (map[string]bool, error) {
	tests := make(map[string]bool)
	return tests, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, found := range declared.FindAllSubmatch(text, -1) {
			tests[string(found[1])] = true
		}
		return err
	})
}
