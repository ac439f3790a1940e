package chaos_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

// failingTotals makes the totals of some customers fail until a time. The customer's id contains that time and the index of the SQLSTATE, so
// that the failure ends by itself and survives every crash.
const failingTotals = `
CREATE FUNCTION chaos_fail() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE id text := NEW.customer_id::text;
BEGIN
	IF extract(epoch FROM clock_timestamp()) * 1000 < ('x' || right(id, 12))::bit(48)::bigint THEN
		RAISE EXCEPTION 'the totals of customer % fail', id
			USING ERRCODE = (ARRAY['P0001', '23505', '23503', '23514', '22003', '55P03', '40P01'])[1 + ('x' || substr(id, 5, 4))::bit(16)::int];
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER chaos_fail BEFORE INSERT OR UPDATE ON customer_totals FOR EACH ROW
	WHEN (NEW.customer_id::text LIKE 'bad0%') EXECUTE FUNCTION chaos_fail()`

const (
	failureKinds = 7 // SQLSTATEs
	outageKinds  = 2 // the last of them: no event is to blame, so the lane waits
)

// failingCustomer returns a customer whose totals cannot be written for a while, and whether that is an outage.
func (w *sqlWriter) failingCustomer() (id string, outage bool) {
	kind := w.random.IntN(failureKinds)
	outage = kind >= failureKinds-outageKinds
	lasts := time.Duration(500+w.random.IntN(7500)) * time.Millisecond
	if outage {
		lasts /= 8
	}
	return fmt.Sprintf("bad0%04x-0000-4000-8000-%012x", kind, time.Now().Add(lasts).UnixMilli()), outage
}

// failingOrder writes a new order of a customer whose totals fail. The first event fails, and the others wait behind it.
func (w *sqlWriter) failingOrder(ctx context.Context, tx *sql.Tx) (written []checker.ID, err error) {
	order := uuid.New()
	customer, outage := w.failingCustomer()
	for range 1 + w.random.IntN(3) {
		event, err := appendEvent(ctx, tx, order, special{customer: customer})
		if err != nil {
			return written, err
		}
		if written = append(written, event); len(written) == 1 && !outage {
			w.ledger.FailsForAWhile(event)
		}
	}
	return written, nil
}

// decideLetters does what an operator does about a subscriber's dead letters: it retries all, or discards one that can never be handled.
func (in *injector) decideLetters(f fault) func() {
	g := in.groupOf(f)
	id := g.id
	in.note("%s: %s", f.kind, id)
	if f.number>>8%2 == 0 || g.external { // a call succeeds without a readable body, so nothing must be discarded
		in.command("subscriber", "retry", "--id", id, "--all")
		return func() {}
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	dead, err := in.dead(ctx, id)
	if err != nil || len(dead) == 0 {
		in.note("no effect, %s has %d dead letters (%v)", id, len(dead), err)
		return func() {}
	}
	if event := dead[f.number>>16%uint64(len(dead))]; in.ledger.IsPoison(event) {
		in.discard(ctx, id, event)
	}
	return func() {}
}

// dead returns the events that are dead letters of a subscriber.
func (h *harness) dead(ctx context.Context, subscriber string) (events []checker.ID, err error) {
	rows, err := h.db.QueryContext(ctx, "SELECT event_id FROM dead_letters WHERE subscriber = $1 AND state = 'dead' ORDER BY position", subscriber)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		event, err := checker.ParseID(text)
		if err != nil {
			return nil, err
		}
		events = append(events, event)
	}
	return events, rows.Err()
}

// discard discards an event, and reports whether that is done. It reports a problem if three tries fail although the database works.
func (h *harness) discard(ctx context.Context, subscriber string, event checker.ID) (decided bool) {
	for try := 1; ; try++ {
		said, err := h.operate("subscriber", "discard", "--id", subscriber, "--event", event.String(), "--yes")
		if err == nil {
			return true
		}
		state := ""
		failed := h.db.QueryRowContext(ctx, "SELECT state FROM dead_letters WHERE subscriber = $1 AND event_id = $2", subscriber, event.String()).Scan(&state)
		if failed != nil || state != "dead" { // no database, or the answer was lost
			return failed == nil
		}
		if try == 3 {
			h.report("event %s of %s cannot be discarded: %v\n%s", event, subscriber, err, said)
			return false
		}
		pause(ctx, time.Second)
	}
}

// lag is how far a subscriber was behind when the faults ended, and how long it took to reach the end of the stream after its last event.
type lag struct {
	subscriber string
	lanes      int
	external   bool
	messages   uint64
	began      time.Time // when the last event was written
	took       time.Duration
}

// arrived returns when every subscriber had reached the end of the stream. Later effects come from retried letters.
func (h *harness) arrived() time.Time {
	var last time.Time
	for _, l := range h.lags {
		if at := l.began.Add(l.took + blameFor/10); at.After(last) {
			last = at
		}
	}
	return last
}

func (h *harness) measureLags(t *testing.T) {
	t.Helper()
	js, err := jetstream.New(h.nc)
	require.NoError(t, err)
	for _, g := range h.groups {
		l := lag{subscriber: g.id, lanes: g.lanes, external: g.external}
		stream, err := js.Stream(t.Context(), "ORDERS")
		if err == nil {
			err = h.db.QueryRow("SELECT greatest(0, $2 - coalesce(min(sequence), 0)) FROM subscriber_lanes WHERE subscriber = $1",
				g.id, int64(stream.CachedInfo().State.LastSeq)).Scan(&l.messages)
		}
		if err != nil {
			t.Logf("the lag of %s when the faults ended is not known: %v", g.id, err)
		}
		h.lags = append(h.lags, l)
	}
}

// behind returns what the subscriber still has to do: every lane has to reach the last message, and no dead letter may be due for a retry.
func (l *lag) behind(ctx context.Context, db *sql.DB, last *jetstream.RawStreamMsg) (who []string) {
	var lanes, arrived, due int
	err := db.QueryRowContext(ctx, `SELECT count(*), count(*) FILTER (WHERE sequence = $2 AND stored_ns = $3) FROM subscriber_lanes WHERE subscriber = $1`,
		l.subscriber, int64(last.Sequence), last.Time.UnixNano()).Scan(&lanes, &arrived)
	if err == nil {
		err = db.QueryRowContext(ctx, `SELECT count(*) FROM dead_letters AS letter WHERE subscriber = $1 AND (state NOT IN ('dead', 'discarded') OR state = 'dead' AND _no_handler)
			AND NOT EXISTS (SELECT FROM dead_letters AS earlier WHERE earlier.subscriber = $1 AND earlier.state = 'dead' AND earlier._no_handler IS NULL
				AND (earlier.aggregate_type, earlier.aggregate_id) = (letter.aggregate_type, letter.aggregate_id) AND earlier.position < letter.position)`,
			l.subscriber).Scan(&due)
	}
	switch {
	case err != nil:
		who = append(who, l.subscriber+": "+err.Error())
	case lanes != l.lanes:
		who = append(who, fmt.Sprintf("%s has %d lanes", l.subscriber, lanes))
	case arrived < lanes:
		who = append(who, fmt.Sprintf("%d of the %d lanes of %s are not at the end of the stream, message %d", lanes-arrived, lanes, l.subscriber, last.Sequence))
		l.took = time.Since(l.began)
	case due > 0:
		who = append(who, fmt.Sprintf("%s has %d letters that nothing holds up", l.subscriber, due))
	}
	return who
}

// decideAll retries all dead letters, and then discards those that can never be handled. It repeats the second step, because other letters may
// wait behind a discarded one. It returns the subscribers that still have letters.
func (h *harness) decideAll(t *testing.T) (who []string) {
	t.Helper()
	for _, subscriber := range h.subscribers {
		said, err := h.operate("subscriber", "retry", "--id", subscriber, "--all")
		require.NoError(t, err, said)
	}
	for again := true; again; {
		if who := h.awaitLetters(t); len(who) > 0 {
			return who
		}
		again = false
		for _, g := range h.groups {
			dead, err := h.dead(t.Context(), g.id)
			require.NoError(t, err)
			for _, event := range dead {
				if g.external || !h.ledger.IsPoison(event) {
					return []string{fmt.Sprintf("event %s of %s is dead again, though it can be handled", event, g.id)}
				}
				again = h.discard(t.Context(), g.id, event) || again
			}
		}
	}
	for _, subscriber := range h.subscribers {
		var left int
		require.NoError(t, h.db.QueryRow("SELECT count(*) FROM dead_letters WHERE subscriber = $1 AND state <> 'discarded'", subscriber).Scan(&left))
		if left > 0 {
			who = append(who, fmt.Sprintf("%s has %d letters after everything was retried or discarded", subscriber, left))
		}
	}
	return who
}

// awaitLetters waits until no dead letter is due for a retry. It returns the subscribers that still have such letters.
func (h *harness) awaitLetters(t *testing.T) (who []string) {
	t.Helper()
	js, err := jetstream.New(h.nc)
	require.NoError(t, err)
	for end := time.Now().Add(catchUpBound); ; pause(t.Context(), 50*time.Millisecond) {
		stream, err := js.Stream(t.Context(), "ORDERS")
		require.NoError(t, err)
		last, err := stream.GetMsg(t.Context(), stream.CachedInfo().State.LastSeq)
		require.NoError(t, err)
		who = nil
		for i := range h.lags {
			l := h.lags[i]
			who = append(who, l.behind(t.Context(), h.db, last)...)
		}
		if len(who) == 0 || time.Now().After(end) {
			return who
		}
	}
}
