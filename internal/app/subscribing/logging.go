package subscribing

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// fewEvents is the largest number of events in a batch that are logged one by one.
const fewEvents = 10

// report logs what a transaction did.
func (s *Subscriber) report(ctx context.Context, batch inbox.Batch, outcome inbox.Outcome) {
	var count [inbox.Held + 1]int
	for _, result := range outcome.Results {
		count[result]++
	}
	few := len(batch.Events) <= fewEvents
	for i, result := range outcome.Results {
		entry := batch.Events[i].Entry
		switch {
		case result == inbox.Applied && few:
			s.handler.Applied(ctx, entry)
		case result == inbox.Held && count[inbox.Held] <= fewEvents:
			s.logger.WarnContext(ctx, "an event waits behind a dead letter of its aggregate", about(entry)...)
		}
	}
	if !few && count[inbox.Applied] > 0 {
		s.logger.InfoContext(ctx, "handled a batch of events", "events", count[inbox.Applied],
			"lane", batch.From.Lane, "sequence", outcome.Checkpoint.Sequence)
	}
	if count[inbox.Held] > fewEvents {
		s.logger.WarnContext(ctx, "events wait behind dead letters of their aggregates", "events", count[inbox.Held])
	}
	if count[inbox.Duplicate] > 0 {
		s.logger.DebugContext(ctx, "dropped events that were dealt with before", "events", count[inbox.Duplicate])
	}
	if batch.PassedOver > 0 {
		s.logger.DebugContext(ctx, "passed over events of types that the subscriber does not want", "events", batch.PassedOver,
			"lane", batch.From.Lane, "sequence", outcome.Checkpoint.Sequence)
	}
	if filled := countNot(inbox.Duplicate, outcome.Results[:batch.FromLog]); filled > 0 {
		s.logger.WarnContext(ctx, "events that the stream had removed came from the log", "events", filled, "lane", batch.From.Lane)
	}
	if batch.Missed.Count > 0 {
		s.logger.ErrorContext(ctx, "skipped removed messages whose events are unknown", "messages", batch.Missed.Count,
			"first", batch.Missed.First, "lane", batch.From.Lane)
	}
	waiting := 0
	for _, letter := range outcome.Letters {
		if letter.NoHandler {
			waiting++
		}
		if !letter.NoHandler || waiting <= fewEvents {
			s.reportFailure(ctx, letter)
		}
	}
	if more := waiting - fewEvents; more > 0 {
		s.logger.WarnContext(ctx, "more events have no handler in this program, and wait for one that has", "events", more)
	}
}

// countNot counts the results that are not equal to the parameter one.
func countNot(one inbox.Result, results []inbox.Result) (count int) {
	for _, result := range results {
		if result != one {
			count++
		}
	}
	return count
}

// reportFailure logs what happens to an event that failed, and what an operator can do about the event.
func (s *Subscriber) reportFailure(ctx context.Context, letter inbox.Letter) {
	switch attempts := append(about(letter.Entry), "attempts", letter.Attempts, "error", letter.Error); {
	case !letter.Readable():
		s.logger.ErrorContext(ctx, "a message cannot be read as an event; it is a dead letter now",
			"event_id", letter.ID, "subject", letter.Subject, "error", letter.Error, "discard", s.opts.LetterCommand("discard", s.id, letter.ID))
	case letter.NoHandler:
		s.logger.WarnContext(ctx, "an event has no handler in this program, it waits for a program that has one and all others go on",
			append(about(letter.Entry), "type", letter.Type, "handler", s.handler.Name())...)
	case letter.State == inbox.Dead:
		s.logger.ErrorContext(ctx, "an event is a dead letter: later events of its aggregate wait until an operator retries or discards it",
			append(attempts, "retry", s.opts.LetterCommand("retry", s.id, letter.ID))...)
	default:
		s.logger.ErrorContext(ctx, "cannot handle an event, it is tried again while all others go on",
			append(attempts, "of", s.opts.MaxAttempts)...)
	}
}

// attributes returns the log attributes of an event.
func attributes(entry outbox.Entry) []any {
	return []any{"event_id", entry.ID, "position", int64(entry.Position)}
}

// about returns the log attributes of an event and its aggregate.
func about(entry outbox.Entry) []any {
	return append(attributes(entry), "aggregate", entry.Key.String())
}
