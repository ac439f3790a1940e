package relaying_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TestOneLineForEachChange : a change of the relay's state is one line, however long the state lasts, and events that are
// published leave none. No line tells what is in an event.
func TestOneLineForEachChange(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var text bytes.Buffer
		w.logger = slog.New(slog.NewJSONHandler(&text, nil))
		said := func() (messages []string) {
			time.Sleep(4 * time.Second) // many polls, and well within the retention
			synctest.Wait()
			require.NotContains(t, text.String(), "s3cret")
			for decoder := json.NewDecoder(&text); decoder.More(); {
				var line struct{ Msg string }
				require.NoError(t, decoder.Decode(&line))
				messages = append(messages, line.Msg)
			}
			text.Reset()
			return messages
		}

		leader := w.run("leader")
		require.Equal(t, []string{"became leader"}, said())
		for n := range 50 {
			w.write(t, n%3, `"s3cret"`)
		}
		require.Empty(t, said())
		require.Len(t, w.stream.Entries(), 50)

		w.stream.Regress(40)
		require.Equal(t, []string{"the stream had lost acknowledged messages, which are published again"}, said())

		w.stream.LimitPayload(len(poison) - 1)
		w.write(t, 0, `{"s3cret": "s3cret, and larger than the broker takes"}`)
		require.Equal(t, []string{"an event can never be published; it is parked, and later ones of its aggregate wait behind it"}, said())
		w.stream.LimitPayload(1000)
		_, err := w.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		require.Equal(t, []string{"redrove parked events"}, said())

		w.stream.AppendCopy(1)
		require.Equal(t, []string{"relay halted", "lost leadership"}, said())
		require.Equal(t, relay.HaltTailCopied, leader.relay.Status().Halt.Reason)
		w.adopt(t)
		require.Equal(t, []string{"the cause of the halt has ended", "became leader", "relaying again"}, said())

		leader.cancel()
		require.Equal(t, []string{"lost leadership"}, said())
	})
}
