package postgres

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
)

const (
	// maxSummary bounds a summary, as the conventions ask.
	maxSummary = 255
	// maxSummaries bounds the memory of summaries. The program has fewer templates; handlers of an application may make any number.
	maxSummaries = 512
)

// summary says what a statement does: "INSERT outbox", "SELECT orders outbox", "UPDATE leases INSERT inbox", "BEGIN".
type summary struct {
	summary    string
	attributes []attribute.KeyValue
}

// summaries remembers the summaries of templates. The zero value is ready. It is safe for concurrent use.
type summaries struct {
	mu   sync.Mutex
	made map[string]summary
}

// of returns the summary of a template.
func (s *summaries) of(text string) summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.made[text]; ok {
		return known
	}
	made := summarize(text)
	if s.made == nil {
		s.made = make(map[string]summary)
	}
	if len(s.made) < maxSummaries {
		s.made[text] = made
	}
	return made
}

var (
	literals = regexp.MustCompile(`'[^']*'|--[^\n]*|"`)
	// commonTable matches the name that WITH gives to a part of the statement.
	commonTable = regexp.MustCompile(`(?i)\b([a-z_]\w*)\s*(?:\([^()]*\)\s*)?AS\s+(?:NOT\s+)?(?:MATERIALIZED\s+)?\(`)
	// target matches a verb, or a keyword with the table that follows it. A function in place of the table has a parenthesis in the last group.
	target = regexp.MustCompile(`(?i)\b(?:DISTINCT\s+FROM|(?:EXTRACT|SUBSTRING|TRIM|OVERLAY)\s*\([^()]*|FOR\s+(?:NO\s+KEY\s+)?UPDATE|DO\s+UPDATE` +
		`|(SELECT)|(INSERT\s+INTO|DELETE\s+FROM|MERGE\s+INTO|UPDATE|FROM|JOIN|USING)\s+(?:ONLY\s+|LATERAL\s+)?([a-z_][\w.]*)(\s*\()?)`)
	// another matches one more table of a list, after the alias of the last one.
	another = regexp.MustCompile(`(?i)^(?:\s+(?:AS\s+)?[a-z_]\w*)?\s*,\s*(?:LATERAL\s+)?([a-z_][\w.]*)(\s*\()?`)
)

// summarize reads a statement. It is no parser: it knows the statements that people write, and a wrong summary only names a span.
func summarize(text string) summary {
	text = strings.TrimSpace(literals.ReplaceAllString(text, " "))
	r := reading{common: make(map[string]bool)}
	if strings.HasPrefix(strings.ToUpper(text), "WITH") {
		for _, found := range commonTable.FindAllStringSubmatch(text, -1) {
			r.common[strings.ToLower(found[1])] = true
		}
	}
	for _, at := range target.FindAllStringSubmatchIndex(text, -1) {
		r.read(text, at)
	}
	if len(r.operations) == 0 {
		return r.summary(firstWord(text))
	}
	return r.summary("")
}

// reading collects the words of a summary.
type reading struct {
	common             map[string]bool
	words              []string
	operations, tables []string // each one once
}

// read adds one match of target.
func (r *reading) read(text string, at []int) {
	group := func(n int) string {
		if at[2*n] < 0 {
			return ""
		}
		return text[at[2*n]:at[2*n+1]]
	}
	if group(1) != "" {
		r.operation("SELECT")
		return
	}
	keyword, table := strings.ToUpper(group(2)), group(3)
	if keyword == "" {
		return
	}
	read := keyword == "FROM" || keyword == "JOIN" || keyword == "USING"
	if !read {
		r.operation(firstWord(keyword))
	}
	if !read || group(4) == "" { // the columns of INSERT have a parenthesis too
		r.table(table)
	}
	if keyword == "FROM" || keyword == "USING" {
		r.list(text[at[1]:], group(4) != "")
	}
}

// list adds the further tables of a list: rest follows the first table, or the parenthesis that a function begins with.
func (r *reading) list(rest string, function bool) {
	for {
		if function {
			rest = afterParenthesis(rest)
		}
		more := another.FindStringSubmatch(rest)
		if more == nil {
			return
		}
		function = more[2] != ""
		if !function {
			r.table(more[1])
		}
		rest = rest[len(more[0]):]
	}
}

// afterParenthesis returns what follows the parenthesis that is open where text begins.
func afterParenthesis(text string) string {
	depth := 1
	for i, c := range text {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		}
		if depth == 0 {
			return text[i+1:]
		}
	}
	return ""
}

func (r *reading) operation(verb string) {
	if last := len(r.words) - 1; last < 0 || r.words[last] != verb { // SELECT of a SELECT
		r.words = append(r.words, verb)
	}
	if !slices.Contains(r.operations, verb) {
		r.operations = append(r.operations, verb)
	}
}

func (r *reading) table(name string) {
	if r.common[strings.ToLower(name)] {
		return
	}
	if last := len(r.words) - 1; last < 0 || r.words[last] != name {
		r.words = append(r.words, name)
	}
	if !slices.Contains(r.tables, name) {
		r.tables = append(r.tables, name)
	}
}

// summary returns the words as a summary. A statement with several operations, or several tables, has no single name for them, so the
// attributes for them stay out, as the conventions ask. Without an operation the verb is the operation.
func (r *reading) summary(verb string) summary {
	if verb != "" {
		r.words, r.operations = []string{verb}, []string{verb}
	}
	text := strings.Join(r.words, " ")
	for len(text) > maxSummary {
		r.words = r.words[:len(r.words)-1]
		text = strings.Join(r.words, " ")
	}
	var attributes []attribute.KeyValue
	if len(r.tables) == 1 {
		attributes = append(attributes, attribute.String("db.collection.name", r.tables[0]))
	}
	if len(r.operations) == 1 {
		attributes = append(attributes, attribute.String("db.operation.name", r.operations[0]))
	}
	return summary{summary: text, attributes: append(attributes, attribute.String("db.query.summary", text))}
}

// firstWord returns the first word of a statement, such as BEGIN.
func firstWord(text string) string {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return "QUERY"
	}
	return strings.ToUpper(fields[0])
}
