package subscribing_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// tracef records a step of the run with its time.
func (h *harness) tracef(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.record(fmt.Sprintf(format, args...))
}

// record does the same as tracef while mu is held.
func (h *harness) record(step string) {
	h.trace = append(h.trace, time.Now().Format("15:04:05.000 ")+step)
}

// describeTrace returns the last steps of a run that failed. All steps are in a file, whose name is on the first line.
func describeTrace(trace []string) string {
	const last = 200
	name := "(the file was not written)"
	if file, err := os.CreateTemp("", "model-trace-*.txt"); err == nil {
		name = file.Name()
		_, _ = file.WriteString(strings.Join(trace, "\n"))
		_ = file.Close()
	}
	return fmt.Sprintf("all steps are in %s, the last ones are:\n%s", name, strings.Join(trace[max(0, len(trace)-last):], "\n"))
}

// place describes a position of the stream.
func place(p inbox.StreamPosition) string {
	stored := "removed"
	if !p.StoredAt.IsZero() {
		stored = p.StoredAt.Format("15:04:05.000")
	}
	return fmt.Sprintf("%d(position %d, %s)", p.Sequence, p.Progress, stored)
}

// names describes events by position, aggregate and version.
func names(events []inbox.Event) string {
	var found []string
	for _, event := range events {
		if event.Unreadable != nil {
			found = append(found, fmt.Sprintf("unreadable@%d", event.Sequence))
		} else {
			found = append(found, fmt.Sprintf("%d=%s/%d", event.Position, event.Key.ID, event.Version))
		}
	}
	return strings.Join(found, " ")
}

// traceRead records, while mu is held, a read that did not return what the reader has seen before, as far as a person needs it to follow a run.
func (p *process) traceRead(from uint64, messages []inbox.Message) {
	var found []string
	for _, message := range messages[:min(len(messages), 12)] {
		text := place(message.StreamPosition)
		if message.Event != nil {
			text += ":" + names([]inbox.Event{*message.Event})
		}
		found = append(found, text)
	}
	if slices.Equal(found, p.lastRead) {
		return
	}
	p.lastRead = found
	p.h.tracef("%s read from %d: %d messages %s", p.name, from, len(messages), strings.Join(found, " "))
}
