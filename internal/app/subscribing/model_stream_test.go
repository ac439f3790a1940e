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

// takeOver begins where the stream ends, as the relay's own messages say.
func (w *world) takeOver() {
	w.cursor = w.purged
	for _, message := range w.stream.Messages() {
		w.cursor = max(w.cursor, message.Progress.Position)
	}
	w.save()
}

// save writes the relay's cursor to the database.
func (w *world) save() {
	w.cursors.Edit(func(cursor *relay.Cursor) {
		cursor.Position, cursor.StreamSequence = w.cursor, w.stream.Len()
	})
}

// publish goes on with the log, as the relay does. What the broker refuses is parked, and what follows it in its aggregate too.
func (w *world) publish(count int) {
	defer w.save()
	for _, entry := range w.log[w.cursor:] {
		if count == 0 {
			return
		}
		w.cursor = entry.Position
		if w.parked[entry.Position] || w.redriven[entry.Position] > 0 {
			continue
		}
		count--
		var err error
		if w.refused[entry.Position] || w.waits(entry) {
			w.note("event parked")
			w.parked[entry.Position] = true
			w.rows.Park(entry.Position, relay.Parked, 0)
			_, err = w.stream.PublishControl(w.t.Context(), w.stream.Len(), relay.ControlMessage{Progress: entry.Progress(), Parked: "refused"})
		} else {
			_, err = w.stream.Publish(w.t.Context(), w.stream.Len(), []outbox.Entry{entry})
		}
		require.NoError(w.t, err)
	}
}

// waits reports whether an earlier event of the aggregate waits in the parking lot.
func (w *world) waits(entry outbox.Entry) bool {
	return slices.ContainsFunc(w.log[:entry.Position-1], func(other outbox.Entry) bool {
		return other.Key == entry.Key && w.parked[other.Position]
	})
}

// redrive publishes what is parked of some aggregates, as far as the relay has passed it.
func (w *world) redrive(count int) {
	for range count {
		var waiting []outbox.Entry
		for _, entry := range w.log {
			if w.parked[entry.Position] && entry.Position <= w.cursor && (len(waiting) == 0 || entry.Key == waiting[0].Key) {
				waiting = append(waiting, entry)
			}
		}
		if len(waiting) == 0 {
			return
		}
		first := w.stream.Len() + 1
		_, err := w.stream.Redrive(w.t.Context(), w.stream.Len(), w.log[w.cursor-1].Progress(), waiting)
		require.NoError(w.t, err)
		for i, entry := range waiting {
			w.note("event redriven")
			delete(w.parked, entry.Position)
			w.redriven[entry.Position] = first + uint64(i)
			w.rows.Park(entry.Position, relay.Redriven, first+uint64(i))
		}
		w.save()
	}
}

// lose takes the end of the stream away. The log heals it.
func (w *world) lose() {
	length := w.stream.Len()
	if length == 0 {
		return
	}
	w.note("stream lost its end")
	w.forget(length - min(length, uint64(1+w.dice(20))))
	if w.dice(2) == 0 {
		w.publish(lifeEvents)
	}
}

func (w *world) forget(after uint64) {
	w.stream.Regress(after)
	w.parkAgain(after)
	w.takeOver()
}

// parkAgain waits again for the events that were redriven after a sequence.
func (w *world) parkAgain(after uint64) {
	for position, sequence := range w.redriven {
		if sequence > after && position > w.purged {
			delete(w.redriven, position)
			w.parked[position] = true
			w.rows.Park(position, relay.Redrive, 0)
		}
	}
}

// remake deletes the stream, and fills a new one from the log.
func (w *world) remake() {
	w.note("stream remade")
	w.stream.Recreate()
	w.fill()
	w.parkAgain(0)
	w.takeOver()
	w.publish(w.dice(lifeEvents))
}

// fill makes the log's cursor stand in the stream.
func (w *world) fill() {
	state, err := memory.NewReader(w.stream, subscriber).State(w.t.Context())
	require.NoError(w.t, err)
	w.cursors.Edit(func(cursor *relay.Cursor) { cursor.StreamCreated = state.Created })
}

// repeat stores a message a second time, whose event the log has.
func (w *world) repeat() {
	messages := slices.DeleteFunc(w.messages(), func(m inbox.Message) bool {
		return m.Event == nil || m.Event.Unreadable == nil && m.Event.Position <= w.purged
	})
	if len(messages) > 0 {
		w.note("duplicate")
		w.stream.AppendCopy(messages[w.dice(len(messages))].Sequence)
	}
}

// expire purges the beginning of the log, and removes the beginning of the stream, as far as the subscriber has come.
func (w *world) expire() {
	for _, entry := range w.log[w.purged:w.cursor] {
		if !w.forgetful(entry) {
			break
		}
		w.purged = entry.Position
	}
	w.rows.Purge(w.purged)
	messages := w.messages()
	for _, message := range messages[:max(0, len(messages)-1)] {
		if event := message.Event; event != nil && event.Unreadable == nil && event.Position > w.purged {
			return
		}
		w.note("expired message")
		w.stream.Delete(message.Sequence)
	}
}

// forgetful reports whether the log's row of an event may go. The log keeps what it published lately: a former leader does not know
// that the stream has it, and the inbox would forget it too early.
func (w *world) forgetful(entry outbox.Entry) bool {
	lately := slices.ContainsFunc(w.messages(), func(m inbox.Message) bool {
		return m.Event != nil && m.Event.ID == entry.ID && m.Sequence+2*mostBehind > w.stream.Len()
	})
	return !lately && !w.parked[entry.Position] && (w.inbox.Applied(subscriber, entry.ID) || w.discarded[entry.ID])
}

// knows reports whether the subscriber has begun, and every lane stands at a message of the stream. What the stream has lost by the
// beginning is not missed. If the stream loses its end, grows again, and loses what has grown before a lane looks, redriven events can be
// missed.
func (w *world) knows() bool {
	view, err := w.inbox.Look(w.t.Context(), subscriber, "judge")
	if err != nil || len(view.Lanes) == 0 {
		return false
	}
	at := make(map[uint64]time.Time)
	for _, message := range w.messages() {
		at[message.Sequence] = message.StoredAt
	}
	return !slices.ContainsFunc(view.Lanes, func(lane inbox.Checkpoint) bool {
		return !lane.StoredAt.Equal(at[lane.Sequence]) || lane.Sequence > w.stream.Len()
	})
}

// remove deletes a message, or all up to one, as a limit does; never the last one, by which the relay knows where it stands.
func (w *world) remove() {
	messages := w.messages()
	if len(messages) < 2 || !w.knows() {
		return
	}
	at := w.dice(len(messages) - 1)
	removed := messages[at : at+1]
	if w.dice(3) == 0 {
		w.note("limit")
		removed = messages[:at+1]
	}
	for _, message := range removed {
		w.note("hole")
		w.stream.Delete(message.Sequence)
	}
}

// messages returns what the stream has.
func (w *world) messages() []inbox.Message {
	messages, err := memory.NewReader(w.stream, subscriber).Read(w.t.Context(), 1, inbox.ReadLimit{Count: 1000, Bytes: 1 << 20})
	require.NoError(w.t, err)
	return messages
}
