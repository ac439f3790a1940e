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

// TestOneLineForEachChange checks that each change of the relay's state is one log line, that published events leave no line, and that no
// line contains an event's payload.
func TestOneLineForEachChange(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		var text bytes.Buffer
		h.logger = slog.New(slog.NewJSONHandler(&text, nil))
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

		leader := h.run("leader")
		require.Equal(t, []string{"became leader"}, said())
		for n := range 50 {
			h.write(t, n%3, `"s3cret"`)
		}
		require.Empty(t, said())
		require.Len(t, h.stream.Entries(), 50)

		h.stream.LoseAfter(40)
		require.Equal(t, []string{"the stream had lost acknowledged messages, which are published again"}, said())

		h.stream.LimitPayload(len(poison) - 1)
		h.write(t, 0, `{"s3cret": "s3cret, and larger than the broker takes"}`)
		require.Equal(t, []string{"an event can never be published; it is parked, and later ones of its aggregate wait behind it"}, said())
		h.stream.LimitPayload(1000)
		_, err := h.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		require.Equal(t, []string{"redrove parked events"}, said())

		h.stream.AppendCopy(1)
		require.Equal(t, []string{"relay halted", "lost leadership"}, said())
		require.Equal(t, relay.HaltTailCopied, leader.relay.Status().Halt.Reason)
		h.adopt(t)
		require.Equal(t, []string{"the cause of the halt has ended", "became leader", "relaying again"}, said())

		leader.cancel()
		require.Equal(t, []string{"lost leadership"}, said())
	})
}
