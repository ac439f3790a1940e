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

// sickness lets the totals of some customers fail until a time, which is in the customer's id with the SQLSTATE's index. So it ends by
// itself, and survives every crash.
const sickness = `
CREATE FUNCTION chaos_sick() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE id text := NEW.customer_id::text;
BEGIN
	IF extract(epoch FROM clock_timestamp()) * 1000 < ('x' || right(id, 12))::bit(48)::bigint THEN
		RAISE EXCEPTION 'customer % is sick', id
			USING ERRCODE = (ARRAY['P0001', '23505', '23503', '23514', '22003', '55P03', '40P01'])[1 + ('x' || substr(id, 5, 4))::bit(16)::int];
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER chaos_sick BEFORE INSERT OR UPDATE ON customer_totals FOR EACH ROW
	WHEN (NEW.customer_id::text LIKE 'bad0%') EXECUTE FUNCTION chaos_sick()`

const (
	sicknesses = 7 // SQLSTATEs
	outages    = 2 // of them, the last: no event is to blame, so the lane waits
)

// sickCustomer returns a customer whose totals cannot be written for a while, and whether that is an outage.
func (w *sqlWriter) sickCustomer() (id string, outage bool) {
	kind := w.random.IntN(sicknesses)
	outage = kind >= sicknesses-outages
	lasts := time.Duration(500+w.random.IntN(7500)) * time.Millisecond
	if outage {
		lasts /= 8
	}
	return fmt.Sprintf("bad0%04x-0000-4000-8000-%012x", kind, time.Now().Add(lasts).UnixMilli()), outage
}

// sickOrder writes a new order of a sick customer. The first event fails, and the others wait behind it.
func (w *sqlWriter) sickOrder(ctx context.Context, tx *sql.Tx) (written []checker.ID, err error) {
	order := uuid.New()
	customer, outage := w.sickCustomer()
	for range 1 + w.random.IntN(3) {
		event, err := appendEvent(ctx, tx, order, special{customer: customer})
		if err != nil {
			return written, err
		}
		if written = append(written, event); len(written) == 1 && !outage {
			w.ledger.Troubled(event)
		}
	}
	return written, nil
}

// decideLetters does what an operator does about a subscriber's dead letters: retry all, or give one up that nobody can ever handle.
func (n *nemesis) decideLetters(f fault) func() {
	g := n.groupOf(f)
	id := g.id
	n.note("%s: %s", f.kind, id)
	if f.number>>8%2 == 0 || g.external { // there is none that it cannot call for
		n.command("subscriber", "retry", "--id", id, "--all")
		return func() {}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dead, err := n.dead(ctx, id)
	if err != nil || len(dead) == 0 {
		n.note("nothing came of it, %s has %d dead letters (%v)", id, len(dead), err)
		return func() {}
	}
	if event := dead[f.number>>16%uint64(len(dead))]; n.ledger.IsPoison(event) {
		n.discard(ctx, id, event)
	}
	return func() {}
}

// dead returns the events that are dead letters of a subscriber.
func (w *world) dead(ctx context.Context, subscriber string) (events []checker.ID, err error) {
	rows, err := w.db.QueryContext(ctx, "SELECT event_id FROM dead_letters WHERE subscriber = $1 AND state = 'dead' ORDER BY position", subscriber)
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

// discard gives an event up, and reports whether it is. It complains if the event is still dead after several tries though the database is there.
func (w *world) discard(ctx context.Context, subscriber string, event checker.ID) (decided bool) {
	for try := 1; ; try++ {
		said, err := w.operate("subscriber", "discard", "--id", subscriber, "--event", event.String(), "--yes")
		if err == nil {
			return true
		}
		state := ""
		failed := w.db.QueryRowContext(ctx, "SELECT state FROM dead_letters WHERE subscriber = $1 AND event_id = $2", subscriber, event.String()).Scan(&state)
		if failed != nil || state != "dead" { // no database, or the answer was lost
			return failed == nil
		}
		if try == 3 {
			w.complain("event %s of %s cannot be discarded: %v\n%s", event, subscriber, err, said)
			return false
		}
		pause(ctx, time.Second)
	}
}

// lag is how far a subscriber was behind when the faults ended, and how long it took to come to the end of the stream after that had its
// last event.
type lag struct {
	subscriber string
	lanes      int
	external   bool
	messages   uint64
	began      time.Time // when the last event was written
	took       time.Duration
}

// arrived returns when every subscriber had come to the end of the stream. Whatever took effect later had waited for its handler.
func (w *world) arrived() time.Time {
	var last time.Time
	for _, l := range w.lags {
		if at := l.began.Add(l.took + aftermath/10); at.After(last) {
			last = at
		}
	}
	return last
}

func (w *world) measureLags(t *testing.T) {
	t.Helper()
	js, err := jetstream.New(w.nc)
	require.NoError(t, err)
	for _, g := range w.groups {
		l := lag{subscriber: g.id, lanes: g.lanes, external: g.external}
		stream, err := js.Stream(t.Context(), "ORDERS")
		if err == nil {
			err = w.db.QueryRow("SELECT greatest(0, $2 - coalesce(min(sequence), 0)) FROM subscriber_lanes WHERE subscriber = $1",
				g.id, int64(stream.CachedInfo().State.LastSeq)).Scan(&l.messages)
		}
		if err != nil {
			t.Logf("the lag of %s when the faults ended is not known: %v", g.id, err)
		}
		w.lags = append(w.lags, l)
	}
}

// behind returns what the subscriber has to do yet: every lane has to stand at the last message, and no letter may be tried again by
// itself.
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

// decideAll retries all letters, and then gives up those that are dead for good, until there are none: behind one there may be others. It
// returns who has letters in the end.
func (w *world) decideAll(t *testing.T) (who []string) {
	t.Helper()
	for _, subscriber := range w.subscribers {
		said, err := w.operate("subscriber", "retry", "--id", subscriber, "--all")
		require.NoError(t, err, said)
	}
	for again := true; again; {
		if who := w.awaitLetters(t); len(who) > 0 {
			return who
		}
		again = false
		for _, g := range w.groups {
			dead, err := w.dead(t.Context(), g.id)
			require.NoError(t, err)
			for _, event := range dead {
				if g.external || !w.ledger.IsPoison(event) {
					return []string{fmt.Sprintf("event %s of %s is dead again, though it can be handled", event, g.id)}
				}
				again = w.discard(t.Context(), g.id, event) || again
			}
		}
	}
	for _, subscriber := range w.subscribers {
		var left int
		require.NoError(t, w.db.QueryRow("SELECT count(*) FROM dead_letters WHERE subscriber = $1 AND state <> 'discarded'", subscriber).Scan(&left))
		if left > 0 {
			who = append(who, fmt.Sprintf("%s has %d letters after everything was retried or discarded", subscriber, left))
		}
	}
	return who
}

// awaitLetters waits until no letter is tried again by itself. It returns who has such letters in the end.
func (w *world) awaitLetters(t *testing.T) (who []string) {
	t.Helper()
	js, err := jetstream.New(w.nc)
	require.NoError(t, err)
	for end := time.Now().Add(catchUpBound); ; pause(t.Context(), 50*time.Millisecond) {
		stream, err := js.Stream(t.Context(), "ORDERS")
		require.NoError(t, err)
		last, err := stream.GetMsg(t.Context(), stream.CachedInfo().State.LastSeq)
		require.NoError(t, err)
		who = nil
		for i := range w.lags {
			l := w.lags[i]
			who = append(who, l.behind(t.Context(), w.db, last)...)
		}
		if len(who) == 0 || time.Now().After(end) {
			return who
		}
	}
}
