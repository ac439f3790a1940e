// Command rename makes a service of its own out of a copy of this project. It renames the Go module, the service and its aggregate in every
// file, and generates the generated code again:
//
//	make rename MODULE=example.com/acme/billing NAME=billing AGGREGATE=invoice
//
// The names of the engine stay, because its documentation and its dashboards use them. The file engine.txt lists them. The word "order" is
// renamed where it is the aggregate, and stays where it is a sequence: aggregate.go has the rules.
//
// The command refuses bad names, and a work tree with changes that are not committed. It plans every change before it writes the first one. If a
// step fails, the command restores all files. It deletes itself at the end.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

func main() {
	var n names
	flag.StringVar(&n.module, "module", "", "path of the new Go module, such as example.com/acme/billing")
	flag.StringVar(&n.service, "name", "", "name of the service: one lower-case word, such as billing")
	flag.StringVar(&n.singular, "aggregate", "", "name of the aggregate: one lower-case noun, such as invoice")
	flag.StringVar(&n.plural, "plural", "", "plural of the aggregate, if it is not a regular one")
	flag.StringVar(&n.activity, "activity", "", "package of the use cases; invoicing for invoice, if it is empty")
	root := flag.String("root", ".", "folder of the copy")
	flag.Parse()
	if err := run(*root, n); err != nil {
		fmt.Fprintln(os.Stderr, "rename:", err)
		os.Exit(1)
	}
}

func run(root string, n names) error {
	r, err := readRules(engineText)
	if err != nil {
		return err
	}
	n = n.completed()
	if err := errors.Join(n.check(r)...); err != nil {
		return err
	}
	if err := checkTree(root); err != nil {
		return err
	}
	changes, err := plan(root, n, r)
	if err != nil {
		return err
	}
	if err := checkClashes(root, changes); err != nil {
		return err
	}
	if err := apply(root, changes); err != nil {
		return err
	}
	if err := generate(root); err != nil {
		return errors.Join(err, undo(root, changes))
	}
	if _, err := git(root, "add", "--all"); err != nil {
		return err
	}
	fmt.Printf("%d files are changed and staged. Look at `git diff --staged -M`, commit, and read docs/your-own-service.md.\n", len(changes))
	return nil
}

// completed returns n with the words that the user left to the rules.
func (n names) completed() names {
	if n.plural == "" && n.singular != "" {
		n.plural = plural(n.singular)
	}
	if n.activity == "" && n.singular != "" {
		n.activity = activity(n.singular)
	}
	return n
}

// generate generates the code of openapi.yaml again, and checks that everything compiles.
func generate(root string) error {
	for _, args := range [][]string{{"generate", "./..."}, {"mod", "tidy"}, {"-C", "tools", "mod", "tidy"}, {"build", "./..."}} {
		command := exec.Command("go", args...)
		command.Dir = root
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s\nAll files are as they were", strings.Join(args, " "), err, output)
		}
	}
	return nil
}
