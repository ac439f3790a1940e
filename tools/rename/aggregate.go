package main

import (
	"regexp"
	"slices"
	"strings"
)

// The word "order" has two meanings here: the aggregate, and a sequence. Only the aggregate is renamed. In an identifier the word is the
// aggregate, except in sequenceNames and after "in". In prose and SQL the words around it decide, by the rules of sequence.

// sequenceNames are the identifiers in which "order" is a sequence.
var sequenceNames = []string{"OrderExpr", "checkOrder", "checkCallOrder", "listOrder", "appendOrder", "treeOrder"}

// serial finds what stands before "orders" that are sequences.
var serial = regexp.MustCompile(`\bserial $`)

// sequence are the rules for prose. If one matches, "order" is a sequence. before has the text in front of the word, and after the text behind
// it, in lower case, with line breaks and comment marks as one space.
var sequence = []struct{ before, after *regexp.Regexp }{
	{nil, regexp.MustCompile(`^ by\b`)},
	{regexp.MustCompile(`\b(in|out of|x-)[ *"_` + "`" + `]*$|\bx-$`), nil},
	{
		regexp.MustCompile(`\bin (the|this|that|which|what|any|either|every|their|different|wrong|reverse|the same|the given|the wrong|a fixed|some) $`),
		regexp.MustCompile(`^([^'’]|$)`),
	},
	{regexp.MustCompile(`\b(the|rising|any) $`), regexp.MustCompile(`^ (of|in which)\b`)},
	{regexp.MustCompile(`\b(keep|keeps|kept|keeping|breaks?|broke|broken|violates?|gives?) (the |their |this |that )?$`), regexp.MustCompile(`^([^'’]|$)`)},
	{regexp.MustCompile(`(^|[^f]) their $`), nil},
	{regexp.MustCompile(`\b(stream|commit|log|version|position|serial|lane|tab|focus|rising|ascending|descending|fixed|commit-safe|wrong|reverse) $`), nil},
	{nil, regexp.MustCompile(`^ within it\b`)},
	{regexp.MustCompile(`\bc5 $`), nil},
}

// mark is what stands between two words of a text that goes on in the next line.
var mark = regexp.MustCompile(`\s*\n\s*(?://+|#+|--|\*|>)?\s*|\s+`)

// article finds "an" in front of the word, with marks of Markdown, HTML or quotation between.
var article = regexp.MustCompile(`\b([aA])([nN])((?:\s|//|#|--|[*"'` + "`" + `<\[(_]|<[a-z]+>)+)$`)

// window is how much text around a word the rules see.
const window = 60

// isSequence reports whether text[from:to] is the word "order", and is a sequence.
func isSequence(text string, from, to int) bool {
	before := strings.ToLower(mark.ReplaceAllString(text[max(0, from-window):from], " "))
	after := strings.ToLower(mark.ReplaceAllString(text[to:min(len(text), to+window)], " "))
	switch strings.ToLower(text[from:to]) {
	case "ordering":
		return strings.HasPrefix(after, " by ")
	case "orders":
		return serial.MatchString(before)
	case "order":
	default:
		return false
	}
	return slices.ContainsFunc(sequence, func(rule struct{ before, after *regexp.Regexp }) bool {
		return (rule.before == nil || rule.before.MatchString(before)) && (rule.after == nil || rule.after.MatchString(after))
	})
}

var word = regexp.MustCompile(`[A-Za-z0-9_]+`)

// renameAggregate returns text with the aggregate's words replaced. isCode reports whether the byte at an offset belongs to an identifier in Go
// code; everything else is prose.
func (n names) renameAggregate(text string, isCode func(offset int) bool) string {
	var out strings.Builder
	done := 0
	for _, span := range word.FindAllStringIndex(text, -1) {
		from, to := span[0], span[1]
		if from > 0 && text[from-1] == '\\' && strings.IndexByte("ntrbsSdDwW", text[from]) >= 0 {
			from++ // \n, or \b of a regular expression
		}
		renamed := n.renameIdentifier(text[from:to])
		if renamed == text[from:to] {
			continue
		}
		if !isCode(from) && isSequence(text, from, to) {
			continue
		}
		gap := text[done:from]
		if found := article.FindStringSubmatchIndex(gap); found != nil && !takesAn(n.singular) && strings.HasPrefix(strings.ToLower(text[from:to]), "order") {
			gap = gap[:found[3]] + gap[found[5]:]
		}
		out.WriteString(gap)
		out.WriteString(renamed)
		done = to
	}
	return out.String() + text[done:]
}

// renameIdentifier returns an identifier with the aggregate's words replaced.
func (n names) renameIdentifier(identifier string) string {
	if slices.Contains(sequenceNames, identifier) || !strings.Contains(strings.ToLower(identifier), "order") {
		return identifier
	}
	var out strings.Builder
	done, before := 0, ""
	for _, p := range partsOf(identifier) {
		here := identifier[p.from:p.to]
		to := ""
		switch strings.ToLower(here) {
		case "order":
			to = n.singular
		case "orders":
			to = n.plural
		case "ordering":
			to = n.activity
		case "orderstest":
			to = n.plural + "test"
		}
		if to != "" && !strings.EqualFold(before, "in") {
			kept := identifier[done:p.from]
			if strings.EqualFold(before, "an") && !takesAn(n.singular) {
				kept = strings.TrimRight(kept, "nN_") + strings.Repeat("_", strings.Count(kept, "_"))
			}
			out.WriteString(kept + inCase(here, to))
			done = p.to
		}
		before = here
	}
	return out.String() + identifier[done:]
}
