package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

func status(t *testing.T, h *harness) operations.RelayStatus {
	t.Helper()
	status, err := h.relayAdmin().Status(t.Context())
	require.NoError(t, err)
	return status
}

// record appends versions 1 to versions of an order.
func record(t *testing.T, h *harness, id string, versions int64) {
	t.Helper()
	writer, err := h.Begin(t.Context())
	require.NoError(t, err)
	for version := range versions {
		require.NoError(t, writer.Append(t.Context(), relaytest.NewMessage(id, version+1)))
	}
	require.NoError(t, writer.Commit())
}

// park puts the event at a position into the parking lot, in the given state.
func park(t *testing.T, h *harness, position outbox.Position, state relay.ParkedState) {
	t.Helper()
	exec(t, h.others, `
		INSERT INTO outbox_parked (position, event_id, aggregate_type, aggregate_id, event_type, reason, state, stream_sequence)
		SELECT position, event_id, aggregate_type, aggregate_id, event_type, 'too large', ?0, CASE WHEN ?0 = 'redriven' THEN 7 END
		FROM outbox WHERE position = ?1`, state, int64(position))
}

func TestStatusOfAnEmptyDatabase(t *testing.T) {
	h := newHarness(t)
	before := time.Now().Add(-time.Minute)
	found := status(t, h)
	require.WithinRange(t, found.Now, before, time.Now().Add(time.Minute))
	require.Equal(t, operations.RelayStatus{Relay: relayName, Now: found.Now, SequenceCheck: operations.SequenceCheck{NextPosition: 1}}, found)
}

func TestStatusShowsTheProgressOfTheRelay(t *testing.T) {
	h := newHarness(t)
	record(t, h, "a", 5)
	elector := h.Elector("instance-1")
	term, err := elector.Acquire(t.Context(), 0)
	require.NoError(t, err)
	_, err = h.cursors.Save(t.Context(), relay.WriteFence{Token: term.Token},
		relay.Cursor{Progress: outbox.Progress{Position: 2}, StreamCreated: "x", StreamSequence: 7})
	require.NoError(t, err)
	rewrite(t, h.others, "recorded_at = recorded_at - position * interval '1 minute'")

	found := status(t, h)
	require.Equal(t, "instance-1", found.Leader.Holder)
	require.Equal(t, term.Token, found.Leader.Token)
	require.False(t, found.Leader.Since.After(found.Now))
	require.True(t, found.Leader.Until.After(found.Now))
	require.Nil(t, found.Halt)
	require.Equal(t, outbox.Position(2), found.Position)
	require.WithinRange(t, found.SavedAt, found.Leader.Since, found.Now)
	require.Equal(t, "STREAM", found.Stream)
	require.Equal(t, uint64(7), found.Sequence)
	require.Equal(t, outbox.Position(5), found.LastPosition)
	require.EqualValues(t, 3, found.Unpublished)
	require.Greater(t, found.Now.Sub(found.Oldest), 5*time.Minute-time.Millisecond)

	halt := relay.NewHalt(relay.HaltTailGone, "it's gone")
	require.NoError(t, h.cursors.Report(t.Context(), relay.WriteFence{Token: term.Token, Revision: 1}, halt))
	h.Purge(t, 1)
	found = status(t, h)
	require.Equal(t, *halt, found.Halt.Halt)
	require.WithinRange(t, found.Halt.Since, found.Leader.Since, found.Now)
	require.Equal(t, outbox.Position(1), found.PurgedTo)

	require.NoError(t, elector.Resign(t.Context(), term))
	require.Nil(t, status(t, h).Leader)
	require.NotNil(t, status(t, h).Halt, "until a leader finds that it is over")
}

// TestStatusShowsTheTimeOfTheLastProgress checks that SavedAt changes only with progress. A relay that takes over again and again
// writes all the time, but makes no progress.
func TestStatusShowsTheTimeOfTheLastProgress(t *testing.T) {
	h := newHarness(t)
	record(t, h, "a", 3)
	term, err := h.Elector("instance-1").Acquire(t.Context(), 0)
	require.NoError(t, err)
	saved := relay.Cursor{Progress: outbox.Progress{Position: 1}, StreamCreated: "x", StreamSequence: 1}
	save := func(position outbox.Position, sequence uint64) time.Time {
		saved.Position, saved.StreamSequence = position, sequence
		saved, err = h.cursors.Save(t.Context(), relay.WriteFence{Token: term.Token, Revision: saved.Revision}, saved)
		require.NoError(t, err)
		return status(t, h).SavedAt
	}
	first := save(1, 1)
	for range 3 {
		_, err := h.parking.Reconcile(t.Context(), relay.WriteFence{Token: term.Token, Revision: saved.Revision}, relay.MessageMeta{}, 1, true)
		require.NoError(t, err)
		saved.Revision++
		require.NoError(t, h.cursors.Report(t.Context(), relay.WriteFence{Token: term.Token, Revision: saved.Revision}, nil))
		saved.Revision++
		require.Equal(t, first, save(1, 1))
	}
	published := save(2, 2)
	require.True(t, published.After(first))
	redriven := save(2, 3)
	require.True(t, redriven.After(published))
	exec(t, h.others, `INSERT INTO outbox_parked (position, event_id, aggregate_type, aggregate_id, event_type, reason, state)
		SELECT position, event_id, aggregate_type, aggregate_id, event_type, 'too large', 'parked' FROM outbox WHERE position = 3`)
	parked := save(3, 3)
	require.True(t, parked.After(redriven))
	require.Equal(t, parked, save(3, 3))
	require.NoError(t, h.relayAdmin().Adopt(t.Context(), saved.Revision, saved, false))
	require.True(t, status(t, h).SavedAt.After(parked))
}

// TestStatusIsOfOneRelay checks that the status shows nothing of other relays, and no expired lease.
func TestStatusIsOfOneRelay(t *testing.T) {
	h := newHarness(t)
	exec(t, h.others, `INSERT INTO leases (name, holder, token, acquired_at, expires_at) VALUES
		('OTHER', 'x', 1, now(), now() + interval '1 hour'), (?, 'expired', 7, now(), now())`, relayName)
	exec(t, h.others, `INSERT INTO outbox_cursor (relay, position, token, updated_at, halt_reason) VALUES ('OTHER', 7, 1, now(), 'tail_gone')`)
	found := status(t, h)
	require.Equal(t, operations.RelayStatus{Relay: relayName, Now: found.Now, SequenceCheck: operations.SequenceCheck{NextPosition: 1}}, found)
}

func TestStatusCountsTheParkingLotApart(t *testing.T) {
	h := newHarness(t)
	record(t, h, "a", 3)
	record(t, h, "b", 3)
	park(t, h, 1, relay.Parked)
	park(t, h, 2, relay.Redrive)
	park(t, h, 4, relay.Parked)
	park(t, h, 5, relay.Discarded)
	found := status(t, h)
	require.EqualValues(t, 2, found.Unpublished, "positions 3 and 6")
	require.EqualValues(t, 3, found.ParkedEvents)
	require.EqualValues(t, 2, found.ParkedAggregates)
}

func TestStatusNamesTheOldestWriter(t *testing.T) {
	h := newHarness(t)
	reader := transaction(t, h)
	exec(t, reader, "SELECT count(*) FROM outbox")
	require.Nil(t, status(t, h).OldestTransaction, "a reader, however old, holds nothing up")

	older, younger := transaction(t, h), transaction(t, h)
	insert(t, younger, "younger")
	insert(t, older, "older")
	var pid int
	require.NoError(t, h.others.NewRaw("SELECT pg_backend_pid() /* last */").Conn(older).Scan(t.Context(), &pid))
	found := status(t, h)
	require.Equal(t, pid, found.OldestTransaction.Session)
	require.Equal(t, operations.OpenTransaction{
		Session: pid, Application: "others", State: "idle in transaction", Query: "SELECT pg_backend_pid() /* last */", Since: found.OldestTransaction.Since,
	}, *found.OldestTransaction)
	require.True(t, found.OldestTransaction.Since.Before(found.Now))
	require.Zero(t, found.Unpublished, "nothing is committed")

	exec(t, older, "PREPARE TRANSACTION ?", h.name)
	exec(t, younger, "ROLLBACK")
	found = status(t, h)
	require.Equal(t, operations.OpenTransaction{Prepared: h.name, State: "prepared", Since: found.OldestTransaction.Since}, *found.OldestTransaction)
	require.False(t, found.OldestTransaction.Since.IsZero())
	exec(t, h.others, "ROLLBACK PREPARED ?", h.name)
	require.Nil(t, status(t, h).OldestTransaction)
}

func TestListChooses(t *testing.T) {
	h := newHarness(t)
	record(t, h, "a", 3)                                                                                                   // positions 1 to 3
	record(t, h, "b", 2)                                                                                                   // positions 4 and 5
	rewrite(t, h.others, "recorded_at = recorded_at - interval '1 hour' WHERE position <= 2")                              // recorded long ago
	rewrite(t, h.others, "event_type = 'it''s ?' WHERE position IN (2, 5)")                                                // another type
	rewrite(t, h.others, "aggregate_type = 'voucher' WHERE position = 3")                                                  // another key
	exec(t, h.others, "INSERT INTO outbox_cursor (relay, position, token, updated_at) VALUES (?, 3, 0, now())", relayName) // unpublished: 4, 5
	exec(t, h.others, "INSERT INTO outbox_cursor (relay, position, token, updated_at) VALUES ('OTHER', 9, 0, now())")      // must have no effect
	park(t, h, 1, relay.Redriven)
	park(t, h, 4, relay.Parked)
	open := transaction(t, h)
	insert(t, open, "open")
	record(t, h, "c", 1) // position 7: the relay waits for position 6

	for name, c := range map[string]struct {
		filter operations.EventFilter
		want   []outbox.Position
	}{
		"all":                   {operations.EventFilter{Limit: 10}, []outbox.Position{7, 5, 4, 3, 2, 1}},
		"the newest":            {operations.EventFilter{Limit: 2}, []outbox.Position{7, 5}},
		"none":                  {operations.EventFilter{}, nil},
		"a position":            {operations.EventFilter{Position: 3, Limit: 10}, []outbox.Position{3}},
		"a position not there":  {operations.EventFilter{Position: 6, Limit: 10}, nil},
		"an aggregate":          {operations.EventFilter{Aggregate: outbox.Key{Type: relaytest.AggregateType, ID: "a"}, Limit: 10}, []outbox.Position{2, 1}},
		"a type":                {operations.EventFilter{Type: "it's ?", Limit: 10}, []outbox.Position{5, 2}},
		"recorded lately":       {operations.EventFilter{Since: time.Now().Add(-30 * time.Minute), Limit: 10}, []outbox.Position{7, 5, 4, 3}},
		"all of it":             {operations.EventFilter{Aggregate: outbox.Key{Type: relaytest.AggregateType, ID: "a"}, Type: "it's ?", Limit: 10}, []outbox.Position{2}},
		"an aggregate's newest": {operations.EventFilter{Aggregate: outbox.Key{Type: relaytest.AggregateType, ID: "b"}, Limit: 1}, []outbox.Position{5}},
	} {
		listed, err := h.relayAdmin().List(t.Context(), c.filter)
		require.NoError(t, err, name)
		var positions []outbox.Position
		for _, entry := range listed {
			positions = append(positions, entry.Position)
		}
		require.Equal(t, c.want, positions, name)
	}

	listed, err := h.relayAdmin().List(t.Context(), operations.EventFilter{Limit: 10})
	require.NoError(t, err)
	var states []string
	for _, entry := range listed {
		states = append(states, entry.State)
	}
	require.Equal(t, []string{operations.Unpublished, operations.Unpublished, "parked", operations.Published, operations.Published, "redriven"}, states)
	require.Equal(t, "too large", listed[2].Reason)
	require.Empty(t, listed[3].Reason)

	page, err := h.log.After(t.Context(), outbox.Progress{}, relay.ReadLimit{Count: 1})
	require.NoError(t, err)
	recorded := page.Entries[0]
	recorded.Parked, recorded.Payload = false, nil
	require.Equal(t, recorded, listed[5].Entry, "as it was recorded, without the payload that nobody asked for")
}

// TestListWithoutARelay checks that events are listed as unpublished before a relay has run.
func TestListWithoutARelay(t *testing.T) {
	h := newHarness(t)
	record(t, h, "a", 1)
	listed, err := h.relayAdmin().List(t.Context(), operations.EventFilter{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, operations.Unpublished, listed[0].State)
}

// TestAdoptionLetsRetentionCountAnew checks which events retention may remove directly after an adoption. An event counts as
// old only if the relay had passed it in the same stream, and it is not behind the adopted position.
func TestAdoptionLetsRetentionCountAnew(t *testing.T) {
	for name, c := range map[string]struct {
		to        outbox.Position
		newStream bool
		stays     int // how many of 4 events stay
	}{
		"forward":        {4, false, 1},
		"back":           {2, false, 2},
		"another stream": {3, true, 4},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			record(t, h, "a", 4)
			term, err := h.Elector("instance-1").Acquire(t.Context(), 0)
			require.NoError(t, err)
			saved, err := h.cursors.Save(t.Context(), relay.WriteFence{Token: term.Token}, relay.Cursor{Progress: outbox.Progress{Position: 3}, StreamSequence: 3})
			require.NoError(t, err)
			removed, err := h.Retention().Purge(t.Context(), term.Token, time.Hour, 10)
			require.NoError(t, err)
			require.Zero(t, removed)
			h.Age(t, 2*time.Hour)

			adopted := relay.Cursor{Progress: outbox.Progress{Position: c.to}, StreamCreated: "x", StreamSequence: 9}
			require.NoError(t, h.relayAdmin().Adopt(t.Context(), saved.Revision, adopted, c.newStream))
			removed, err = h.Retention().Purge(t.Context(), term.Token, time.Hour, 10)
			require.NoError(t, err)
			require.Equal(t, 4-c.stays, removed)
		})
	}
}

// TestAdoptionWaitsForTheLeadersWrite checks that an adoption waits for a write of the leader that is under way, and then fails
// because the cursor has changed.
func TestAdoptionWaitsForTheLeadersWrite(t *testing.T) {
	h := newHarness(t)
	term, err := h.Elector("instance-1").Acquire(t.Context(), 0)
	require.NoError(t, err)
	_, err = h.cursors.Save(t.Context(), relay.WriteFence{Token: term.Token}, relay.Cursor{StreamCreated: "x", StreamSequence: 1})
	require.NoError(t, err)
	leader := transaction(t, h)
	exec(t, leader, "UPDATE outbox_cursor SET revision = revision + 1, stream_sequence = 2 WHERE relay = ?", relayName)

	adopted := make(chan error, 1)
	go func() { adopted <- h.relayAdmin().Adopt(t.Context(), 1, relay.Cursor{StreamCreated: "y"}, true) }()
	require.Eventually(t, func() bool {
		var waiting int
		err := h.others.NewRaw("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'").Scan(t.Context(), &waiting)
		return err == nil && waiting == 1
	}, beginTimeout, 5*time.Millisecond)
	exec(t, leader, "COMMIT")
	require.ErrorIs(t, <-adopted, relay.ErrStaleRevision)
	cursor, err := h.relayAdmin().Cursor(t.Context())
	require.NoError(t, err)
	require.Equal(t, relay.Cursor{StreamCreated: "x", StreamSequence: 2, Revision: 2}, cursor)
}

func TestMissingSchemaIsNamed(t *testing.T) {
	h := newHarness(t)
	exec(t, h.others, "DROP TABLE outbox_parked")
	_, err := h.relayAdmin().Status(t.Context())
	require.ErrorIs(t, err, postgres.ErrSchema)
	_, err = h.relayAdmin().List(t.Context(), operations.EventFilter{Limit: 1})
	require.ErrorIs(t, err, postgres.ErrSchema)
	require.ErrorContains(t, err, "outboxie migrate up")
	exec(t, h.others, "ALTER TABLE outbox_cursor DROP COLUMN halt_reason")
	_, err = h.relayAdmin().Cursor(t.Context())
	require.ErrorIs(t, err, postgres.ErrSchema)
}

// TestListAsksOnlyForThePayloadsThatItShows checks that Postgres does not send the payloads that a list omits. If it sent them,
// the program would allocate more memory than the test accepts.
func TestListAsksOnlyForThePayloadsThatItShows(t *testing.T) {
	h := newHarness(t)
	const times = 4 // the log has this many times the bytes that a list may have
	count := times * operations.MaxListedBytes / operations.MaxListedPayload
	exec(t, h.others, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', 'a', version, 't', 'orders.x', to_json(repeat('x', ?0 - 2)) FROM generate_series(1, ?1) AS version`,
		operations.MaxListedPayload, count)
	var found []operations.ListedEvent
	used := allocated(func() {
		var err error
		found, err = h.relayAdmin().List(t.Context(), operations.EventFilter{Limit: count, Payloads: true})
		require.NoError(t, err)
	})
	require.Len(t, found, count)
	for i, listed := range found {
		require.Equal(t, i < count/times, listed.Omitted == "" && len(listed.Payload) == operations.MaxListedPayload, "entry %d", i)
	}
	require.Less(t, used, times*operations.MaxListedBytes)
}
