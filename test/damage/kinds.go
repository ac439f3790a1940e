package damage

import (
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Kind is a damage for which the relay halts.
type Kind struct {
	Halt  relay.HaltReason
	Cause func(s *Service) // does the damage to a Service that nothing else has damaged
	Plan  string           // a part of the plan of the adoption
	// Holds is how many messages the stream has after the adoption and one more order, with the control message of the adoption and the
	// messages of the damage. It counts from the stream's first sequence.
	Holds uint64
}

// Kinds returns the damages, by name. They cover each relay.HaltReason but relay.HaltStreamUnfit, which an adoption does not end.
func Kinds() map[string]Kind {
	return map[string]Kind{
		"the stream is deleted":                          {relay.HaltStreamMissing, (*Service).deleteStream, "publish 5 events of the log", 1 + 5 + 1},
		"the stream is created again":                    {relay.HaltStreamReplaced, (*Service).replaceStream, "publish 5 events of the log", 1 + 5 + 1},
		"the last message is deleted":                    {relay.HaltTailGone, (*Service).deleteLast, "publish 0 events of the log", 5 + 1 + 1 + 1},
		"an old message is copied":                       {relay.HaltTailCopied, (*Service).copyOld, "publish 0 events of the log", 5 + 1 + 1 + 1},
		"the stream goes back, and somebody else writes": {relay.HaltTailForeign, (*Service).goBackAndStray, "publish 2 events of the log", 5 + 1 + 2 + 1},
		"what the stream lost is purged":                 {relay.HaltLogPurged, (*Service).goBackAndPurge, "the log no longer has them", 3 + 1 + 1},
		"the sequence starts again": {
			relay.HaltSequenceBehind, (*Service).restartSequence, "set the sequence of outbox.position above 5", 5 + 1 + 1,
		},
		"rows are deleted": {
			relay.HaltHistoryLost, func(s *Service) { s.SQL("DELETE FROM outbox WHERE position >= 4") }, "go on after position 3", 5 + 1 + 1,
		},
	}
}

func (s *Service) deleteStream() {
	s.UseStream(func(js jetstream.JetStream, _ jetstream.Stream) {
		require.NoError(s.T, js.DeleteStream(s.T.Context(), "ORDERS"))
	})
}

func (s *Service) replaceStream() {
	s.UseStream(func(js jetstream.JetStream, old jetstream.Stream) {
		require.NoError(s.T, js.DeleteStream(s.T.Context(), "ORDERS"))
		_, err := js.CreateStream(s.T.Context(), old.CachedInfo().Config)
		require.NoError(s.T, err)
	})
}

// stray publishes messages of another program.
func (s *Service) stray(messages int) {
	s.UseStream(func(js jetstream.JetStream, _ jetstream.Stream) {
		for range messages {
			_, err := js.Publish(s.T.Context(), "orders.stray", []byte("hello"))
			require.NoError(s.T, err)
		}
	})
}

func (s *Service) deleteLast() {
	s.stray(1)
	s.UseStream(func(_ jetstream.JetStream, stream jetstream.Stream) {
		require.NoError(s.T, stream.DeleteMsg(s.T.Context(), 6))
	})
}

func (s *Service) copyOld() {
	s.UseStream(func(js jetstream.JetStream, stream jetstream.Stream) {
		old, err := stream.GetMsg(s.T.Context(), 2)
		require.NoError(s.T, err)
		for name := range old.Header { // these headers are instructions for the broker
			if strings.HasPrefix(name, "Nats-") {
				old.Header.Del(name)
			}
		}
		_, err = js.PublishMsg(s.T.Context(), &nats.Msg{Subject: old.Subject, Header: old.Header, Data: old.Data})
		require.NoError(s.T, err)
	})
}

func (s *Service) goBackAndStray() {
	RollBack(s.T, s.Broker, s.Store, s.Kept)
	s.stray(2)
}

func (s *Service) goBackAndPurge() {
	RollBack(s.T, s.Broker, s.Store, s.Kept)
	s.SQL("DELETE FROM outbox")
	s.SQL("UPDATE outbox_cursor SET purged_to = 5")
}

func (s *Service) restartSequence() {
	s.SQL("DELETE FROM outbox")
	s.SQL("UPDATE outbox_cursor SET purged_to = 5")
	s.SQL("ALTER TABLE outbox ALTER COLUMN position RESTART")
}
