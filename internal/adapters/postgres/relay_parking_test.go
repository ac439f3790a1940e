package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// stalled starts call. It returns when the statement of call waits for a lock.
func stalled(t *testing.T, h *harness, call func(context.Context) error) <-chan error {
	t.Helper()
	answer := make(chan error, 1)
	go func() { answer <- call(t.Context()) }()
	require.Eventually(t, func() bool {
		var waiting int
		err := h.admin.NewRaw("SELECT count(*) FROM pg_stat_activity WHERE datname = ? AND wait_event_type = 'Lock'", h.name).
			Scan(t.Context(), &waiting)
		return err == nil && waiting == 1
	}, beginTimeout, time.Millisecond)
	return answer
}

func eventually(t *testing.T, answer <-chan error) error {
	t.Helper()
	select {
	case err := <-answer:
		return err
	case <-time.After(beginTimeout):
		require.FailNow(t, "it still waits")
		return nil
	}
}

// scene is a relay for which every kind of write has work. Of eight events, the first five are parked, two of them for redrive.
// The sixth belongs behind the fifth, the cursor passed the seventh long ago, and the eighth can be parked.
type scene struct {
	*harness
	term     relay.Term
	log      []outbox.Entry
	revision int64
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{harness: newHarness(t)}
	var err error
	s.term, err = s.Elector("leader").Acquire(t.Context(), 0)
	require.NoError(t, err)
	writer, err := s.Begin(t.Context())
	require.NoError(t, err)
	versions := make(map[string]int64)
	for _, aggregate := range []string{"a", "a", "b", "c", "d", "d", "e", "f"} {
		versions[aggregate]++
		require.NoError(t, writer.Append(t.Context(), relaytest.NewMessage(aggregate, versions[aggregate])))
	}
	require.NoError(t, writer.Commit())
	page, err := s.Log().After(t.Context(), outbox.Progress{}, plenty)
	require.NoError(t, err)
	s.log = page.Entries
	for _, entry := range s.log[:5] {
		s.parkEntry(t, entry)
	}
	count, err := s.parking.Redrive(t.Context(), &s.log[0].Key)
	require.NoError(t, err)
	require.Equal(t, 2, count)
	_, err = s.cursors.Save(t.Context(), s.fence(), relay.Cursor{Progress: s.log[6].Progress(), StreamCreated: "x", StreamSequence: 7})
	require.NoError(t, err)
	s.revision++
	require.Zero(t, s.purge(t))
	s.Age(t, 2*time.Hour)
	return s
}

func (s *scene) fence() relay.WriteFence {
	return relay.WriteFence{Token: s.term.Token, Revision: s.revision}
}

// parkEntry parks entry with Reconcile.
func (s *scene) parkEntry(t *testing.T, entry outbox.Entry) {
	t.Helper()
	settled, err := s.parking.Reconcile(t.Context(), s.fence(), parkedMeta(entry), 7, true)
	require.NoError(t, err)
	require.True(t, settled.Waiting)
	s.revision++
}

func (s *scene) purge(t *testing.T) int {
	t.Helper()
	removed, err := s.Retention().Purge(t.Context(), s.term.Token, time.Hour, 1000)
	require.NoError(t, err)
	return removed
}

func parkedMeta(entry outbox.Entry) relay.MessageMeta {
	return relay.MessageMeta{Own: true, Progress: entry.Progress(), Parked: "too large"}
}

// revisionFenced returns the writes of a relay that check the cursor's revision.
func (s *scene) revisionFenced() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Save": func(ctx context.Context) error {
			_, err := s.cursors.Save(ctx, s.fence(), relay.Cursor{})
			return err
		},
		"Report": func(ctx context.Context) error {
			return s.cursors.Report(ctx, s.fence(), relay.NewHalt(relay.HaltTailGone, "gone"))
		},
		"Reconcile after a control message": func(ctx context.Context) error {
			_, err := s.parking.Reconcile(ctx, s.fence(), parkedMeta(s.log[7]), 8, true)
			return err
		},
		"Reconcile after a redriven event": func(ctx context.Context) error {
			_, err := s.parking.Reconcile(ctx, s.fence(), relay.MessageMeta{Own: true, Event: s.log[1].Position}, 8, true)
			return err
		},
		"SetAside": func(ctx context.Context) error {
			_, err := s.parking.SetAside(ctx, s.fence(), s.log[5:6])
			return err
		},
		"Refuse": func(ctx context.Context) error { return s.parking.Refuse(ctx, s.fence(), s.log[0], "refused") },
	}
}

// fenced returns all writes of a relay, also Purge, which checks only the token.
func (s *scene) fenced() map[string]func(context.Context) error {
	all := s.revisionFenced()
	all["Purge"] = func(ctx context.Context) error {
		_, err := s.Retention().Purge(ctx, s.term.Token, time.Hour, 1000)
		return err
	}
	return all
}

// everything returns the text of all rows that a relay writes.
func (s *scene) everything(t *testing.T) (rows []string) {
	t.Helper()
	require.NoError(t, s.others.NewRaw(`SELECT c::text FROM outbox_cursor AS c UNION ALL SELECT p::text FROM outbox_parked AS p
		UNION ALL SELECT o::text FROM outbox AS o ORDER BY 1`).Scan(t.Context(), &rows))
	return rows
}

func (s *scene) positions(t *testing.T) (positions []int64) {
	t.Helper()
	require.NoError(t, s.others.NewRaw("SELECT position FROM outbox ORDER BY 1").Scan(t.Context(), &positions))
	return positions
}

// TestWritesThatOverlapTheSuccessorAreRefused checks that every write of the former leader fails if its successor takes the
// lease while the write waits.
func TestWritesThatOverlapTheSuccessorAreRefused(t *testing.T) {
	s := newScene(t)
	before := s.everything(t)
	for name, write := range s.fenced() {
		successor := transaction(t, s.harness)
		exec(t, successor, "UPDATE leases SET token = token + 1, holder = 'successor'")
		answer := stalled(t, s.harness, write)
		exec(t, successor, "COMMIT")
		require.ErrorIs(t, eventually(t, answer), relay.ErrLeaseLost, name)
		require.Equal(t, before, s.everything(t), name)
		exec(t, s.others, "UPDATE leases SET token = token - 1")
	}
	require.Equal(t, 2, s.purge(t), "which had something to remove")
}

// TestWritesThatOverlapAnEarlierOneFail checks a leader that gave up a request and sent another one. The first request may still
// take effect. If both have the same revision, only one succeeds.
func TestWritesThatOverlapAnEarlierOneFail(t *testing.T) {
	s := newScene(t)
	before := s.everything(t)
	for name, write := range s.revisionFenced() {
		earlier := transaction(t, s.harness)
		exec(t, earlier, "UPDATE outbox_cursor SET revision = revision + 1")
		answer := stalled(t, s.harness, write)
		exec(t, earlier, "COMMIT")
		require.ErrorIs(t, eventually(t, answer), relay.ErrStaleRevision, name)
		exec(t, s.others, "UPDATE outbox_cursor SET revision = revision - 1")
		require.Equal(t, before, s.everything(t), name)
	}
}

// TestOneOfTheFirstWritesWins checks that only one of two first writes succeeds, although the cursor has no row yet that could be
// locked.
func TestOneOfTheFirstWritesWins(t *testing.T) {
	h := newHarness(t)
	term, err := h.Elector("leader").Acquire(t.Context(), 0)
	require.NoError(t, err)
	earlier := transaction(t, h)
	exec(t, earlier, "INSERT INTO outbox_cursor (relay, revision, token, updated_at) VALUES (?, 1, ?, now())", relayName, term.Token)
	answer := stalled(t, h, func(ctx context.Context) error {
		_, err := h.cursors.Save(ctx, relay.WriteFence{Token: term.Token}, relay.Cursor{StreamCreated: "x"})
		return err
	})
	exec(t, earlier, "COMMIT")
	require.ErrorIs(t, eventually(t, answer), relay.ErrStaleRevision)
	cursor, err := h.cursors.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, relay.Cursor{Revision: 1}, cursor)
}

// TestPurgeThatOverlapsParkingRemovesNothing checks that retention does not remove an event that another transaction parks at
// the same time.
func TestPurgeThatOverlapsParkingRemovesNothing(t *testing.T) {
	s := newScene(t)
	parking := transaction(t, s.harness)
	exec(t, parking, "UPDATE outbox_cursor SET revision = revision + 1")
	exec(t, parking, `INSERT INTO outbox_parked (position, event_id, aggregate_type, aggregate_id, event_type, reason, state)
		SELECT position, event_id, aggregate_type, aggregate_id, event_type, 'too large', 'parked' FROM outbox WHERE position = ?`,
		int64(s.log[6].Position))
	answer := stalled(t, s.harness, s.fenced()["Purge"])
	exec(t, parking, "COMMIT")
	require.NoError(t, eventually(t, answer))
	require.Equal(t, []int64{1, 2, 3, 4, 5, 6, 7, 8}, s.positions(t))
	require.Equal(t, 1, s.purge(t), "only the sixth is neither parked nor above the cursor")
	require.Equal(t, []int64{1, 2, 3, 4, 5, 7, 8}, s.positions(t))
}

// TestParkingDuringThePurgeOfTheEventParksNothing checks that an event is not parked while retention removes it. The
// event could never be redriven.
func TestParkingDuringThePurgeOfTheEventParksNothing(t *testing.T) {
	s := newScene(t)
	purge := transaction(t, s.harness)
	exec(t, purge, "DELETE FROM outbox WHERE position = ?", int64(s.log[7].Position))
	answer := stalled(t, s.harness, s.revisionFenced()["Reconcile after a control message"])
	exec(t, purge, "COMMIT")
	require.NoError(t, eventually(t, answer))
	waiting, err := s.parking.Waiting(t.Context(), 1000)
	require.NoError(t, err)
	require.Len(t, waiting, 5)
}

// TestSettingAsideAndRedrivingSeeEachOther checks an event that is set aside while its aggregate is redriven. The event is
// redriven, too, whichever transaction is first.
func TestSettingAsideAndRedrivingSeeEachOther(t *testing.T) {
	s := newScene(t)
	operator := transaction(t, s.harness)
	exec(t, operator, "UPDATE outbox_parked SET state = 'redrive' WHERE state = 'parked'")
	answer := stalled(t, s.harness, s.revisionFenced()["SetAside"])
	exec(t, operator, "COMMIT")
	require.NoError(t, eventually(t, answer))
	states := func() (states []string) {
		require.NoError(t, s.others.NewRaw("SELECT state FROM outbox_parked ORDER BY position").Scan(t.Context(), &states))
		return states
	}
	require.Equal(t, []string{"redrive", "redrive", "redrive", "redrive", "redrive", "redrive"}, states())

	s = newScene(t)
	relayTx := transaction(t, s.harness)
	exec(t, relayTx, "SELECT FROM outbox_parked WHERE position = ? FOR SHARE", int64(s.log[4].Position))
	exec(t, relayTx, `INSERT INTO outbox_parked (position, event_id, aggregate_type, aggregate_id, event_type, reason, state)
		SELECT position, event_id, aggregate_type, aggregate_id, event_type, 'behind', 'parked' FROM outbox WHERE position = ?`,
		int64(s.log[5].Position))
	var redriven int
	answer = stalled(t, s.harness, func(ctx context.Context) (err error) {
		redriven, err = s.parking.Redrive(ctx, &s.log[4].Key)
		return err
	})
	exec(t, relayTx, "COMMIT")
	require.NoError(t, eventually(t, answer))
	require.Equal(t, 2, redriven)
	require.Equal(t, []string{"redrive", "redrive", "parked", "parked", "redrive", "redrive"}, states())
}

// TestSettingAsideAndDiscardingSeeEachOther checks that an event is not set aside behind a parked event that an operator
// discards at the same time.
func TestSettingAsideAndDiscardingSeeEachOther(t *testing.T) {
	s := newScene(t)
	operator := transaction(t, s.harness)
	exec(t, operator, "UPDATE outbox_parked SET state = 'discarded' WHERE position = ?", int64(s.log[4].Position))
	var aside []outbox.Position
	answer := stalled(t, s.harness, func(ctx context.Context) (err error) {
		aside, err = s.parking.SetAside(ctx, s.fence(), s.log[5:6])
		return err
	})
	exec(t, operator, "COMMIT")
	require.NoError(t, eventually(t, answer))
	require.Empty(t, aside, "nothing of its aggregate waits")
	require.Zero(t, count(t, s.harness, "SELECT count(*)::int FROM outbox_parked WHERE position = 6"))
}

// TestAnEventWithoutItsLogRowHoldsNoOtherAggregateUp checks a parked event whose log row was deleted by hand. It can never be
// redriven, but the events of other aggregates can.
func TestAnEventWithoutItsLogRowHoldsNoOtherAggregateUp(t *testing.T) {
	s := newScene(t)
	exec(t, s.others, "DELETE FROM outbox WHERE position <= ?", int64(s.log[1].Position))
	_, err := s.parking.Redrive(t.Context(), &s.log[2].Key)
	require.NoError(t, err)
	due, waiting, err := s.parking.Due(t.Context(), s.log[7].Position, plenty)
	require.NoError(t, err)
	require.True(t, waiting)
	require.Len(t, due, 1)
	require.Equal(t, s.log[2].Message, due[0].Message)
}

// TestPurgeDoesNotWaitForLockedRows checks that retention stops before a locked row of the log, and skips a locked row of the
// parking lot, so that the renewal of the lease does not wait. A later purge removes these rows.
func TestPurgeDoesNotWaitForLockedRows(t *testing.T) {
	for name, c := range map[string]struct {
		lock          string
		kept, removed []int64 // positions while the row is locked; old enough are 1 (discarded), 6 and 7 (never parked)
	}{
		"the first":            {"SELECT FROM outbox WHERE position = 1 FOR KEY SHARE", []int64{1, 2, 3, 4, 5, 6, 7, 8}, nil},
		"one in the middle":    {"SELECT FROM outbox WHERE position = 6 FOR UPDATE", []int64{2, 3, 4, 5, 6, 7, 8}, []int64{1}},
		"the last":             {"SELECT FROM outbox WHERE position = 7 FOR UPDATE", []int64{2, 3, 4, 5, 7, 8}, []int64{1, 6}},
		"in the parking lot":   {"SELECT FROM outbox_parked WHERE position = 1 FOR UPDATE", []int64{1, 2, 3, 4, 5, 8}, []int64{6, 7}},
		"one that stays there": {"SELECT FROM outbox WHERE position = 2 FOR UPDATE", []int64{2, 3, 4, 5, 8}, []int64{1, 6, 7}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			exec(t, s.others, "UPDATE outbox_parked SET state = 'discarded' WHERE position = 1")
			operator := transaction(t, s.harness)
			exec(t, operator, c.lock)
			for _, removed := range []int{len(c.removed), 0, 0} {
				require.Equal(t, removed, s.purge(t))
				require.Equal(t, c.kept, s.positions(t))
			}
			exec(t, operator, "COMMIT")
			s.Age(t, 2*time.Hour)
			require.Equal(t, 3-len(c.removed), s.purge(t))
			require.Equal(t, []int64{2, 3, 4, 5, 8}, s.positions(t))
		})
	}
}

// TestPurgeTakesWhatIsGoneFromTheLog checks that retention removes a discarded event from the parking lot, although its log row
// is gone.
func TestPurgeTakesWhatIsGoneFromTheLog(t *testing.T) {
	s := newScene(t)
	exec(t, s.others, "DELETE FROM outbox WHERE position = 1")
	require.NoError(t, s.parking.Discard(t.Context(), 1))
	s.Age(t, 2*time.Hour)
	require.Equal(t, 2, s.purge(t))
	require.Equal(t, []int64{2, 3, 4, 5, 8}, s.positions(t))
	var inLot []int64
	require.NoError(t, s.others.NewRaw("SELECT position FROM outbox_parked ORDER BY 1").Scan(t.Context(), &inLot))
	require.Equal(t, []int64{2, 3, 4, 5}, inLot)
}

// TestRetentionRecoversFromAClockThatJumped checks that retention goes on after a clock jump left a time in the future.
func TestRetentionRecoversFromAClockThatJumped(t *testing.T) {
	s := newScene(t)
	exec(t, s.others, "UPDATE outbox_cursor SET passed_at = now() + interval '10 years'")
	require.Zero(t, s.purge(t))
	s.Age(t, 2*time.Hour)
	require.Equal(t, 2, s.purge(t))
}

func TestAHaltIsKeptWithItsFirstTime(t *testing.T) {
	s := newScene(t)
	type halted struct {
		HaltReason, HaltDetail string
		HaltedAt               time.Time
	}
	report := func(halt *relay.Halt) (row halted) {
		require.NoError(t, s.cursors.Report(t.Context(), s.fence(), halt))
		s.revision++
		require.NoError(t, s.others.NewRaw(`SELECT coalesce(halt_reason, '') AS halt_reason, coalesce(halt_detail, '') AS halt_detail,
			coalesce(halted_at, 'epoch') AS halted_at FROM outbox_cursor`).Scan(t.Context(), &row))
		return row
	}
	first := report(relay.NewHalt(relay.HaltTailGone, "message 7"))
	require.Equal(t, "tail_gone", first.HaltReason)
	require.Equal(t, "message 7", first.HaltDetail)
	again := report(relay.NewHalt(relay.HaltTailGone, "message 8"))
	require.Equal(t, "message 8", again.HaltDetail)
	require.Equal(t, first.HaltedAt, again.HaltedAt)
	other := report(relay.NewHalt(relay.HaltTailCopied, "message 8"))
	require.True(t, other.HaltedAt.After(first.HaltedAt))
	none := report(nil)
	require.Equal(t, halted{HaltedAt: none.HaltedAt}, none)
	require.True(t, none.HaltedAt.Equal(time.Unix(0, 0)))
	later := report(relay.NewHalt(relay.HaltTailGone, "message 7"))
	require.True(t, later.HaltedAt.After(other.HaltedAt))
}
