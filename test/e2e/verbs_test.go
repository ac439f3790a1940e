package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// shownSubscriber is what `outboxie subscriber status --json` shows of one subscriber.
type shownSubscriber struct {
	Subscriber string
	State      string
	Copies     []string
	LagEvents  *int `json:"lag_events"`
	Lanes      []struct{ Lane, Sequence int }
}

// status returns what `outboxie subscriber status` shows of the subscriber.
func (s *subscription) status() shownSubscriber {
	s.t.Helper()
	code, said := s.command("subscriber", "status", "--id", "emails", "--json")
	require.Zero(s.t, code, said)
	var shown struct{ Subscribers []shownSubscriber }
	require.NoError(s.t, json.Unmarshal([]byte(said), &shown), said)
	require.Len(s.t, shown.Subscribers, 1)
	return shown.Subscribers[0]
}

// requireRest requires that nothing takes effect for a while.
func (s *subscription) requireRest() {
	s.t.Helper()
	before := count(s.t, s.db, applied)
	time.Sleep(time.Second)
	require.Equal(s.t, before, count(s.t, s.db, applied), "nothing takes effect while it is paused")
}

// TestVerbsBesideCopies checks that operators pause, resume and rewind a subscriber, and change its lanes, beside three copies under load:
// each event takes effect once, in the order of its aggregate, and none is lost.
func TestVerbsBesideCopies(t *testing.T) {
	s := newSubscription(t, "LOG_LEVEL=info", "SUBSCRIBER_LANES=4", "SUBSCRIBER_BATCH_TIME=50ms")
	s.requireCommand(1, "there is no subscriber emails", "pause", "--id", "emails")
	for _, name := range []string{"one", "two", "three"} {
		s.startCopy(name).WaitFor("subscribed")
	}
	stop := s.load()
	defer stop()
	s.requireEventualRate()
	for _, lanes := range []int{7, 1, 16} {
		s.requireCommand(0, "is paused", "pause", "--id", "emails")
		s.requireRest()
		s.requireCommand(0, fmt.Sprintf("has %d lane", lanes), "lanes", "--id", "emails", "--to", fmt.Sprint(lanes))
		require.Equal(t, "paused", s.status().State)
		s.requireRest()
		s.requireCommand(0, "goes on", "resume", "--id", "emails")
		time.Sleep(500 * time.Millisecond)
		s.requireCommand(0, "The inbox drops what was applied", "rewind", "--id", "emails", "--to", "start")
		s.requireCommand(0, "has 3 lanes", "lanes", "--id", "emails", "--to", "3")
		// On a slow machine the lanes may not have reached that time again.
		if code, said := s.command("subscriber", "rewind", "--id", "emails", "--to", "time:"+time.Now().Add(-time.Second).UTC().Format(time.RFC3339Nano)); code != 0 {
			require.Contains(t, said, "there is nothing to rewind")
		}
		s.requireCommand(0, "has", "lanes", "--id", "emails", "--to", fmt.Sprint(lanes))
		s.requireEventualRate()
	}
	stop()
	s.requireEffects()
	shown := s.status()
	require.Equal(t, "working", shown.State)
	require.Len(t, shown.Lanes, 16)
	require.Len(t, shown.Copies, 3)
	require.NotNil(t, shown.LagEvents)

	s.requireCommand(2, "is no place in the stream", "rewind", "--id", "emails", "--to", "100")
	s.requireCommand(2, "the stream ends at", "rewind", "--id", "emails", "--to", "sequence:1000000000")
	s.requireCommand(1, "nothing to rewind", "rewind", "--id", "emails", "--to", "end")
	s.requireCommand(1, "there is nothing to skip", "skip", "--id", "emails", "--to", "start", "--yes")
}

// requireEventualRate waits until events take effect.
func (s *subscription) requireEventualRate() {
	s.t.Helper()
	before := count(s.t, s.db, applied)
	require.Eventually(s.t, func() bool { return count(s.t, s.db, applied) > before+10 }, waitTimeout, tick)
}

// TestSkip checks that skipped events take no effect, that the command first says how many it would skip, and that a rewind brings them back.
func TestSkip(t *testing.T) {
	s := newSubscription(t, "LOG_LEVEL=info", "SUBSCRIBER_LANES=3")
	s.startCopy("one").WaitFor("subscribed")
	s.startCopy("two").WaitFor("subscribed")
	s.record(100)
	s.requireEffects()
	var position int
	require.NoError(t, s.db.QueryRow("SELECT max(position) FROM outbox").Scan(&position))
	s.requireCommand(0, "is paused", "pause", "--id", "emails")
	s.record(50)
	s.awaitPublished(150)
	said := s.requireCommand(2, "repeat the command with --yes", "skip", "--id", "emails", "--to", "end")
	require.Contains(t, said, "skip at most 50 events, up to sequence 150")
	s.requireCommand(0, "goes on after sequence 150", "skip", "--id", "emails", "--to", "end", "--yes")
	s.requireCommand(0, "goes on", "resume", "--id", "emails")
	s.record(10)
	s.eventually(applied, 110)
	s.requireRest()
	said = s.requireCommand(0, "Done", "rewind", "--id", "emails", "--to", fmt.Sprintf("position:%d", position))
	require.Contains(t, said, "60 events are read again")
	s.requireEffects()
}

// TestForgetIsResumed checks that a subscriber is forgotten from the first moment on, also if the command is killed while it erases a large
// inbox: its copies end, and none begins. The remaining rows are erased later, and a subscriber of the same name begins again.
func TestForgetIsResumed(t *testing.T) {
	s := newSubscription(t, "LOG_LEVEL=info", "SUBSCRIBER_LANES=2")
	copies := []*infra.Process{s.startCopy("one"), s.startCopy("two")}
	s.record(100)
	s.requireEffects()
	_, err := s.db.Exec(`INSERT INTO inbox (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position, sequence)
		SELECT 'emails', gen_random_uuid(), 'order', 'x', 1, 1, 1 FROM generate_series(1, 200000)`)
	require.NoError(t, err)
	s.requireCommand(2, "repeat the command with --yes", "forget", "--id", "emails")
	const left = "SELECT count(*) FROM inbox WHERE subscriber = 'emails'"
	forgetting := exec.Command(infra.Binary(t), "subscriber", "forget", "--id", "emails", "--yes")
	forgetting.Env = append(os.Environ(), s.environment...)
	require.NoError(t, forgetting.Start())
	require.Eventually(t, func() bool { return count(t, s.db, left) < 200000 }, waitTimeout, time.Millisecond)
	require.NoError(t, forgetting.Process.Signal(syscall.SIGKILL))
	_ = forgetting.Wait()
	require.Positive(t, count(t, s.db, left), "it was killed too late to show anything")

	for _, copied := range copies {
		require.Equal(t, 1, copied.Wait())
		require.Contains(t, copied.String(), "was forgotten")
		require.Contains(t, copied.String(), "outboxie subscriber forget --lift --id emails")
	}
	require.Equal(t, 1, s.startCopy("three").Wait(), "none begins")
	require.Equal(t, "forgotten", s.status().State)
	s.requireCommand(1, "was forgotten", "pause", "--id", "emails")
	s.requireCommand(0, "is forgotten", "forget", "--id", "emails", "--yes")
	require.Zero(t, count(t, s.db, left))
	require.Equal(t, 100, count(t, s.db, "SELECT sum(orders) FROM customer_totals WHERE subscriber = 'emails'"), "effects stay")

	s.requireCommand(0, "tombstone of subscriber emails is gone", "forget", "--id", "emails", "--lift")
	s.startCopy("four").WaitFor("subscribed")
	s.eventually(applied, 100)
	require.Equal(t, 200, count(t, s.db, "SELECT sum(orders) FROM customer_totals WHERE subscriber = 'emails'"), "a new subscriber knows nothing")
}
