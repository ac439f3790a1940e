package subscribing_test

import (
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// takeOver does what a new leader of the relay does: it goes on after the relay's last message in the stream.
func (h *harness) takeOver() {
	h.cursor = h.purged
	for _, message := range h.stream.Messages() {
		h.cursor = max(h.cursor, message.Progress.Position)
	}
	h.save()
}

// save writes the relay's cursor to the database.
func (h *harness) save() {
	h.cursors.Edit(func(cursor *relay.Cursor) {
		cursor.Position, cursor.StreamSequence = h.cursor, h.stream.LastSequence()
	})
}

// publish publishes the next events of the log, as the relay does. It parks the events that the broker refuses, and the later events of
// their aggregates.
func (h *harness) publish(count int) {
	defer h.save()
	for _, entry := range h.log[h.cursor:] {
		if count == 0 {
			return
		}
		h.cursor = entry.Position
		if h.parked[entry.Position] || h.redriven[entry.Position] > 0 {
			continue
		}
		count--
		var err error
		if h.refused[entry.Position] || h.waits(entry) {
			h.note("event parked")
			h.parked[entry.Position] = true
			h.rows.Park(entry.Position, relay.Parked, 0)
			_, err = h.stream.PublishControl(h.t.Context(), h.stream.LastSequence(), relay.ControlMessage{Progress: entry.Progress(), Parked: "refused"})
		} else {
			_, err = h.stream.Publish(h.t.Context(), h.stream.LastSequence(), []outbox.Entry{entry})
		}
		require.NoError(h.t, err)
		h.tracef("position %d=%s/%d is sequence %d, parked: %t", entry.Position, entry.Key.ID, entry.Version, h.stream.LastSequence(), h.parked[entry.Position])
	}
}

// waits reports whether an earlier event of the aggregate waits in the parking lot.
func (h *harness) waits(entry outbox.Entry) bool {
	return slices.ContainsFunc(h.log[:entry.Position-1], func(other outbox.Entry) bool {
		return other.Key == entry.Key && h.parked[other.Position]
	})
}

// redrive publishes the parked events of some aggregates, up to the relay's cursor.
func (h *harness) redrive(count int) {
	for range count {
		var waiting []outbox.Entry
		for _, entry := range h.log {
			if h.parked[entry.Position] && entry.Position <= h.cursor && (len(waiting) == 0 || entry.Key == waiting[0].Key) {
				waiting = append(waiting, entry)
			}
		}
		if len(waiting) == 0 {
			return
		}
		first := h.stream.LastSequence() + 1
		_, err := h.stream.Redrive(h.t.Context(), h.stream.LastSequence(), h.log[h.cursor-1].Progress(), waiting)
		require.NoError(h.t, err)
		for i, entry := range waiting {
			h.note("event redriven")
			h.tracef("position %d=%s/%d is redriven at sequence %d", entry.Position, entry.Key.ID, entry.Version, first+uint64(i))
			delete(h.parked, entry.Position)
			h.redriven[entry.Position] = first + uint64(i)
			h.rows.Park(entry.Position, relay.Redriven, first+uint64(i))
		}
		h.save()
	}
}

// truncateStream removes the end of the stream. Half of the time it publishes the lost events again from the log.
func (h *harness) truncateStream() {
	length := h.stream.LastSequence()
	if length == 0 {
		return
	}
	h.note("stream lost its end")
	h.truncateAfter(length - min(length, uint64(1+h.below(20))))
	if h.below(2) == 0 {
		h.publish(runEvents)
	}
}

func (h *harness) truncateAfter(after uint64) {
	h.stream.LoseAfter(after)
	h.tracef("the stream ends at %d", after)
	h.parkAgain(after)
	h.takeOver()
}

// parkAgain parks the events again that were redriven after a sequence.
func (h *harness) parkAgain(after uint64) {
	for position, sequence := range h.redriven {
		if sequence > after && position > h.purged {
			delete(h.redriven, position)
			h.parked[position] = true
			h.rows.Park(position, relay.Redrive, 0)
		}
	}
}

// recreateStream deletes the stream, and fills a new one from the log.
func (h *harness) recreateStream() {
	h.note("stream remade")
	h.stream.Recreate()
	h.pointLogAtStream()
	h.parkAgain(0)
	h.takeOver()
	h.publish(h.below(runEvents))
}

// pointLogAtStream sets the log's cursor to the present stream.
func (h *harness) pointLogAtStream() {
	state, err := memory.NewReader(h.stream, subscriber).State(h.t.Context())
	require.NoError(h.t, err)
	h.cursors.Edit(func(cursor *relay.Cursor) { cursor.StreamCreated = state.Created })
}

// duplicateMessage stores a message a second time. The log has its event.
func (h *harness) duplicateMessage() {
	messages := slices.DeleteFunc(h.messages(), func(m inbox.Message) bool {
		return m.Event == nil || m.Event.Unreadable == nil && m.Event.Position <= h.purged
	})
	if len(messages) > 0 {
		h.note("duplicate")
		of := messages[h.below(len(messages))].Sequence
		h.stream.AppendCopy(of)
		h.tracef("sequence %d is a copy of %d", h.stream.LastSequence(), of)
	}
}

// expire purges the beginning of the log and removes the beginning of the stream, up to the first event that the subscriber has not
// handled.
func (h *harness) expire() {
	for _, entry := range h.log[h.purged:h.cursor] {
		if !h.purgeable(entry) {
			break
		}
		h.purged = entry.Position
	}
	h.rows.Purge(h.purged)
	h.tracef("the log is purged to position %d", h.purged)
	messages := h.messages()
	for _, message := range messages[:max(0, len(messages)-1)] {
		if event := message.Event; event != nil && event.Unreadable == nil && event.Position > h.purged {
			return
		}
		h.note("expired message")
		h.tracef("sequence %d expires", message.Sequence)
		h.stream.Delete(message.Sequence)
	}
}

// purgeable reports whether retention may remove an event from the log. The log keeps the events that were published lately. Otherwise a
// server that lags would not show that the stream has the event, and the inbox would forget the event too early.
func (h *harness) purgeable(entry outbox.Entry) bool {
	lately := slices.ContainsFunc(h.messages(), func(m inbox.Message) bool {
		return m.Event != nil && m.Event.ID == entry.ID && m.Sequence+2*mostBehind > h.stream.LastSequence()
	})
	return !lately && !h.parked[entry.Position] && (h.inbox.Applied(subscriber, entry.ID) || h.discarded[entry.ID])
}

// lanesAtMessages reports whether the subscriber has begun, and every lane stands at a message of the stream. Messages may be removed
// only then. A subscriber that has not begun never gets the events of removed messages. And if the stream lost its end, grew again, and lost
// the new messages before a lane read them, the lane could miss redriven events.
func (h *harness) lanesAtMessages() bool {
	view, err := h.inbox.Heartbeat(h.t.Context(), subscriber, "judge")
	if err != nil || len(view.Lanes) == 0 {
		return false
	}
	at := make(map[uint64]time.Time)
	for _, message := range h.messages() {
		at[message.Sequence] = message.StoredAt
	}
	return !slices.ContainsFunc(view.Lanes, func(lane inbox.Checkpoint) bool {
		return !lane.StoredAt.Equal(at[lane.Sequence]) || lane.Sequence > h.stream.LastSequence()
	})
}

// removeMessages removes one message, or all messages up to one, as a limit does. It keeps the last message, from which the relay reads its
// position.
func (h *harness) removeMessages() {
	messages := h.messages()
	if len(messages) < 2 || !h.lanesAtMessages() {
		return
	}
	at := h.below(len(messages) - 1)
	removed := messages[at : at+1]
	if h.below(3) == 0 {
		h.note("limit")
		removed = messages[:at+1]
	}
	for _, message := range removed {
		h.note("hole")
		h.tracef("sequence %d is removed", message.Sequence)
		h.stream.Delete(message.Sequence)
	}
}

// messages returns all messages of the stream.
func (h *harness) messages() []inbox.Message {
	messages, err := memory.NewReader(h.stream, subscriber).Read(h.t.Context(), 1, inbox.ReadLimit{Count: 1000, Bytes: 1 << 20})
	require.NoError(h.t, err)
	return messages
}
