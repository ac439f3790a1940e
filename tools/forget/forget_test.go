package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestForget checks which lines of a document are forgotten.
func TestForget(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "here.md"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	text := "[a](here.md#x)\n[b](gone.md)\nhttps: [c](https://x)\n`TestHere`, `TestHe…`\n`TestGone`\n`make demo` shows\n`make demos`\n```\n[b](gone.md)\nmake demo\n```\n"
	kept, forgotten := forget(text, folder, map[string]bool{"TestHere": true}, []string{"demo"})
	if want := "[a](here.md#x)\nhttps: [c](https://x)\n`TestHere`, `TestHe…`\n`make demos`\n```\n[b](gone.md)\n```\n"; kept != want || len(forgotten) != 4 {
		t.Errorf("%q, %q", kept, forgotten)
	}
}

// TestShortened checks that a line that names several tests loses only those that are gone.
func TestShortened(t *testing.T) {
	tests := map[string]bool{"TestHere": true}
	for line, want := range map[string]string{
		"by `TestHere`, `x.TestGone` (\"a\"); `make demo` (b).": "by `TestHere`.",
		"by `TestGone` and `make demo`":                         "by `TestGone` and `make demo`",
		"by `TestHere` and `make other`":                        "by `TestHere` and `make other`",
	} {
		if got := shortened(line, tests, []string{"demo"}); got != want {
			t.Errorf("%q became %q", line, got)
		}
	}
}

// TestForgetModules checks that a table keeps the modules that are required.
func TestForgetModules(t *testing.T) {
	text := "| module | why |\n|---|---|\n| `a`, `b` | x |\n| `c` | y |\n| `a` | z |\n"
	kept, rows := forgetModules(text, map[string]bool{"a": true})
	if want := "| module | why |\n|---|---|\n| `a` | x |\n| `a` | z |\n"; kept != want || len(rows) != 2 {
		t.Errorf("%q, %q", kept, rows)
	}
}

// TestForgetTargets checks that a target goes with its help and its recipe, and from the targets that make it.
func TestForgetTargets(t *testing.T) {
	makefile := filepath.Join(t.TempDir(), "Makefile")
	text := ".PHONY: a\na: ## x\n\trun a\n\n.PHONY: b\nb: ## y\n\trun b\n\n.PHONY: ci\nci: a b c ## z\n\t@$(MAKE) --jobs=3 b a\n"
	if err := os.WriteFile(makefile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := forgetTargets(makefile, []string{"b"}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(makefile)
	if want := ".PHONY: a\na: ## x\n\trun a\n\n.PHONY: ci\nci: a c ## z\n\t@$(MAKE) --jobs=3 a\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	if err := forgetTargets(makefile, []string{"b"}); err == nil {
		t.Error("a target that is not there is an error")
	}
}
