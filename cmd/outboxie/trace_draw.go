package main

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/assylzhan-a/outboxie/internal/adapters/jaeger"
	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
)

// barWidth is how many columns stand for the whole trace.
const barWidth = 24

// drawTrace draws each span of a trace below its parent, with the process, the start and the duration. A span of another trace, such as the
// batch that carried an event, is drawn below the span that links to it.
func drawTrace(out io.Writer, trace jaeger.Trace, linked []jaeger.Span, page string) error {
	d := drawing{trace: trace, linked: linked, start: trace.Start()}
	var end time.Time
	for _, span := range trace.Spans {
		if last := span.Start.Add(span.Duration); last.After(end) {
			end = last
		}
	}
	d.length = end.Sub(d.start)
	for _, root := range d.children("") {
		d.add(root, 0)
	}
	const span, by = "SPAN", "BY"
	titles, actors := len(span), len(by)
	for _, row := range d.rows {
		titles, actors = max(titles, utf8.RuneCountInString(row.title)), max(actors, utf8.RuneCountInString(row.actor))
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s  %s\n\n%-*s  %-*s  %11s  %10s\n", wording.Timestamp(d.start), printable.Line(page), titles, span, actors, by, "AFTER", "TOOK")
	for _, row := range d.rows {
		line := fmt.Sprintf("%-*s  %-*s  %11s  %10s  %-*s  %s", titles, row.title, actors, row.actor,
			took(row.offset), took(row.duration), barWidth, d.bar(row.offset, row.duration), row.remark)
		text.WriteString(strings.TrimRight(line, " ") + "\n")
		for _, event := range row.events {
			text.WriteString(event + "\n")
		}
	}
	_, err := io.WriteString(out, text.String())
	return err
}

type drawing struct {
	trace  jaeger.Trace
	linked []jaeger.Span
	start  time.Time
	length time.Duration
	rows   []drawnSpan
}

type drawnSpan struct {
	title, actor     string
	offset, duration time.Duration
	remark           string
	events           []string
}

func (d *drawing) add(span jaeger.Span, depth int) {
	indent := strings.Repeat("  ", depth)
	row := drawnSpan{
		title: indent + titleOf(span), actor: printable.Line(cmp.Or(span.Instance, span.Service)),
		offset: span.Start.Sub(d.start), duration: span.Duration, remark: d.remark(span),
	}
	for _, event := range span.Events {
		if event.Name != "exception" { // the remark shows the failure
			row.events = append(row.events, fmt.Sprintf("%s  * %s at %s%s", indent, printable.Line(event.Name),
				took(event.Time.Sub(d.start)), details(event)))
		}
	}
	d.rows = append(d.rows, row)
	for _, child := range d.children(span.ID) {
		d.add(child, depth+1)
	}
}

// children returns the spans below the span with an id, by their start. The children of "" are the roots: the spans whose parent is
// missing. A linked span of another trace is a child of the span that links to it.
func (d *drawing) children(id string) []jaeger.Span {
	var children []jaeger.Span
	for _, span := range d.trace.Spans {
		parent := span.Parent()
		if parent == id || id == "" && !d.has(parent) {
			children = append(children, span)
		}
		if span.ID != id {
			continue
		}
		for _, to := range span.References {
			at := slices.IndexFunc(d.linked, func(s jaeger.Span) bool { return s.TraceID == to.TraceID && s.ID == to.SpanID })
			if at >= 0 {
				children = append(children, d.linked[at])
			}
		}
	}
	slices.SortStableFunc(children, func(a, b jaeger.Span) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Name, b.Name))
	})
	return children
}

func (d *drawing) has(id string) bool {
	return slices.ContainsFunc(d.trace.Spans, func(s jaeger.Span) bool { return s.ID == id })
}

// titleOf returns the beginning of the span's statement, or the span's name with its subscriber.
func titleOf(span jaeger.Span) string {
	title := printable.Line(span.Name)
	if statement := span.Text("db.query.text"); statement != "" {
		return beginning(statement)
	}
	if subscriber := span.Text("messaging.consumer.group.name"); subscriber != "" {
		title += " (" + printable.Line(subscriber) + ")"
	}
	return title
}

// write matches the parts of a statement that write.
var write = regexp.MustCompile(`\b(INSERT INTO|DELETE FROM|UPDATE) [a-z_.]+`)

// beginning returns a statement up to its columns, such as INSERT INTO orders. If the statement has several parts, beginning returns the
// last part that writes.
func beginning(statement string) string {
	const most = 40
	text := strings.ReplaceAll(printable.Line(statement), `"`, "")
	if writes := write.FindAllString(text, -1); strings.HasPrefix(text, "WITH ") && len(writes) > 0 {
		text = writes[len(writes)-1]
	}
	text, _, _ = strings.Cut(text, "(")
	text, _, _ = strings.Cut(text, " AS ")
	if text = strings.TrimSpace(text); utf8.RuneCountInString(text) > most {
		text = string([]rune(text)[:most-1]) + "…"
	}
	return text
}

func (d *drawing) remark(span jaeger.Span) string {
	var remarks []string
	if sequence := span.Text(string(telemetry.SequenceKey)); sequence != "" {
		remarks = append(remarks, "sequence "+sequence)
	}
	if count, ok := span.Tags["messaging.batch.message_count"].(int64); ok {
		remarks = append(remarks, "a batch of "+wording.Counted(count, "event"))
	}
	if span.TraceID != d.trace.ID {
		remarks = append(remarks, "trace "+printable.Line(span.TraceID))
	}
	if span.Tags["error"] == true {
		remarks = append(remarks, "failed: "+printable.Line(cmp.Or(span.Text("otel.status_description"), span.Text("error.type"), "no reason given")))
	}
	return strings.Join(remarks, ", ")
}

// details returns how long an event lasted, how often it happened, and its description.
func details(event jaeger.Event) string {
	var text strings.Builder
	if lasted, ok := event.Tags[string(telemetry.LastedKey)].(float64); ok && lasted >= 0.001 {
		fmt.Fprintf(&text, ", for %s", took(time.Duration(lasted*float64(time.Second))))
	}
	if times, ok := event.Tags[string(telemetry.TimesKey)].(int64); ok && times > 1 {
		fmt.Fprintf(&text, ", %d times", times)
	}
	if detail := printable.Line(event.Text(string(telemetry.DetailKey))); detail != "" {
		text.WriteString(": " + detail)
	}
	return text.String()
}

// bar returns a bar that shows the place of a span in the trace. The shortest bar is one column.
func (d *drawing) bar(offset, duration time.Duration) string {
	column := func(at time.Duration) int {
		if d.length <= 0 {
			return 0
		}
		return min(max(int(float64(at)/float64(d.length)*barWidth+0.5), 0), barWidth)
	}
	from := min(column(offset), barWidth-1)
	return strings.Repeat(" ", from) + strings.Repeat("━", max(column(offset+duration)-from, 1))
}

// took returns a duration for people: 2.87 ms, 12.30 s, 3m12s.
func took(d time.Duration) string {
	switch absolute := d.Abs(); {
	case absolute < time.Second:
		return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
	case absolute < 2*time.Minute:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
