package e2e_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/opening"
	"github.com/assylzhan-a/outboxie/outboxietest/checker"
	"github.com/assylzhan-a/outboxie/test/damage"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// erased is the customer whom these tests erase. The totals of this customer can be refused.
const erased = refusedCustomer

// note is a text in the notes of the customer's orders.
const note = "the card of a customer"

// erasure is a subscription whose customer has traces everywhere: orders with notes, idempotency keys, totals, events in the stream and in the
// parking lot, and a dead letter.
type erasure struct {
	*subscription
	copy *infra.Process
	old  string // a copy of the broker's folder, without the newest events of the customer
}

// newErasure leaves a customer with six events: of an order that was placed, paid and shipped, whose last event is parked; of a dead letter; and
// of an order that was placed and cancelled.
func newErasure(t *testing.T, personal string) *erasure {
	t.Helper()
	e := &erasure{subscription: newSubscription(t, "SUBSCRIBER_MAX_ATTEMPTS=1", "PERSONAL_DATA="+personal)}
	e.copy = e.startCopy("reader")
	shipped := e.order(erased, "Idempotency-Key: one")
	placeMany(t, e.api, 3)
	e.eventually(applied, 4)
	e.refuseTotals()
	e.order(erased)
	e.eventually("SELECT count(*) FROM dead_letters WHERE state = 'dead'", 1)
	e.old = damage.KeepStore(t, e.broker, e.store)

	e.change(shipped, "pay", fmt.Sprintf(`{"reference": %q}`, note), "Idempotency-Key: two")
	e.eventually(applied, 5)
	e.repairTotals()
	cancelled := e.order(erased)
	e.change(cancelled, "cancel", fmt.Sprintf(`{"reason": %q}`, note))
	e.eventually(applied, 7)
	e.limitMessages(1000)
	e.change(shipped, "ship", fmt.Sprintf(`{"carrier": %q, "tracking": %q}`, pad(note), pad(note)))
	e.eventually("SELECT count(*) FROM outbox_parked WHERE state = 'parked'", 1)
	return e
}

// pad makes a note as long as a note may be.
func pad(text string) string { return text + strings.Repeat(".", 200-len(text)) }

func (e *erasure) order(customer string, headers ...string) infra.Order {
	e.t.Helper()
	order, err := infra.PlaceFor(e.api, customer, headers...)
	require.NoError(e.t, err)
	return order
}

func (e *erasure) change(order infra.Order, verb, body string, headers ...string) {
	e.t.Helper()
	_, err := infra.Client{Address: e.api}.Call(e.t.Context(), http.MethodPost, "/orders/"+order.ID+"/"+verb, body, nil, headers...)
	require.NoError(e.t, err)
}

// limitMessages sets the size of the largest message that the stream takes; -1: any.
func (e *erasure) limitMessages(size int32) {
	e.t.Helper()
	js, done := connect(e.t, e.broker.URL)
	defer done()
	stream, err := js.Stream(e.t.Context(), "ORDERS")
	require.NoError(e.t, err)
	config := stream.CachedInfo().Config
	config.MaxMsgSize = size
	_, err = js.UpdateStream(e.t.Context(), config)
	require.NoError(e.t, err)
}

// erase runs the command, and returns what it prints.
func (e *erasure) erase(code int, args ...string) string {
	e.t.Helper()
	got, said := e.command(append([]string{"erase", erased}, args...)...)
	require.Equal(e.t, code, got, said)
	return said
}

// healAndRedrive brings the old stream back, so that the relay publishes the lost events again, and then redrives the parked event and retries
// the dead letter.
func (e *erasure) healAndRedrive() {
	e.t.Helper()
	damage.RollBack(e.t, e.broker, e.store, e.old)
	placeMany(e.t, e.api, 2)
	code, said := e.command("outbox", "redrive", "--all")
	require.Zero(e.t, code, said)
	e.eventually("SELECT count(*) FROM outbox_parked WHERE state = 'redriven'", 1)
	e.command("subscriber", "retry", "--id", "emails", "--all")
}

// traces returns the tables with rows that have one of the customer's texts, as text or in bytes, and how many rows they are.
func (e *erasure) traces() map[string]int {
	e.t.Helper()
	rows, err := e.db.Query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
	require.NoError(e.t, err)
	defer rows.Close()
	found, tables := make(map[string]int), 0
	for rows.Next() {
		var table string
		require.NoError(e.t, rows.Scan(&table))
		tables++
		n := 0
		for _, text := range []string{erased, note} {
			n += count(e.t, e.db, fmt.Sprintf("SELECT count(*) FROM %s AS r WHERE r::text LIKE '%%%s%%' OR r::text LIKE '%%%s%%'", table, text, hex.EncodeToString([]byte(text))))
		}
		if n > 0 {
			found[table] = n
		}
	}
	require.NoError(e.t, rows.Err())
	require.Greater(e.t, tables, 15)
	return found
}

// messagesWithTraces returns how many messages of the stream have one of the customer's texts in the payload or in a header, of how many.
func (e *erasure) messagesWithTraces() (found, all int) {
	e.t.Helper()
	js, done := connect(e.t, e.broker.URL)
	defer done()
	stream, err := js.Stream(e.t.Context(), "ORDERS")
	require.NoError(e.t, err)
	for sequence := uint64(1); sequence <= stream.CachedInfo().State.LastSeq; sequence++ {
		message, err := stream.GetMsg(e.t.Context(), sequence)
		require.NoError(e.t, err)
		content := fmt.Sprint(message.Header, string(message.Data))
		if all++; strings.Contains(content, erased) || strings.Contains(content, note) {
			found++
		}
	}
	return found, all
}

// check runs the checker over log, stream and effects.
func (e *erasure) check() checker.Verdict {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), waitTimeout)
	defer cancel()
	results, err := checker.Open(ctx, checker.Source{DatabaseURL: strings.TrimPrefix(e.environment[0], "DATABASE_URL="), NATSURL: e.broker.URL, Stream: "ORDERS"})
	require.NoError(e.t, err)
	defer results.Close()
	history := results.History(ctx)
	history.Subscribers, history.Recovery = []string{"emails"}, checker.Recovery{Took: time.Second, Bound: waitTimeout}
	verdict, err := checker.Verify(history)
	require.NoError(e.t, err)
	return verdict
}

// TestEraseSealed checks that no byte of an erased customer is left in any table or message if events are sealed: not right after the command,
// and not after a heal of the stream, a redrive of a parked event and a retry of a dead letter. The totals of other customers are right, and the
// log, the stream and the effects pass the checker.
func TestEraseSealed(t *testing.T) {
	e := newErasure(t, "sealed")
	require.Subset(t, keysOf(e.traces()), []string{"orders", "request_keys", "customer_totals", "customer_keys"})
	plan := e.erase(2)
	for _, says := range []string{
		"3 orders: they get a pseudonym and lose their notes", "2 idempotency keys: deleted", "1 row of totals: they get the pseudonym",
		"0 dead letters with plain events", "the key of the customer: deleted, so nobody can open 6 sealed events and 1 sealed dead letter",
		"1 event of these orders wait", "emails: 1 event", "repeat the command with --yes",
	} {
		require.Contains(t, plan, says)
	}
	require.NotEmpty(t, e.traces(), "without --yes it changes nothing")
	said := e.erase(0, "--yes")
	require.Contains(t, said, "Done. The customer is erased.")
	audited := said[strings.Index(said, "msg=audit"):]
	require.Contains(t, audited, `action="outboxie erase" arguments="sha256:`)
	require.NotContains(t, audited, erased)
	require.Contains(t, e.erase(0), "Nothing is left to erase.")
	require.Empty(t, e.traces())

	time.Sleep(opening.Forget) // until now the subscriber may have the key in memory
	e.healAndRedrive()
	e.eventually("SELECT count(*) FROM dead_letters", 0)
	e.eventually(applied, 6+3+2)
	require.Empty(t, e.traces())
	found, all := e.messagesWithTraces()
	require.Zero(t, found)
	require.GreaterOrEqual(t, all, 6+3+2)
	verdict := e.check()
	require.Empty(t, verdict.Failed(), verdict)
	require.Equal(t, 5, count(t, e.db, "SELECT orders FROM customer_totals WHERE customer_id = '"+infra.Customer+"'"))
	require.Equal(t, 2, count(t, e.db, "SELECT coalesce(sum(orders), 0) FROM customer_totals WHERE customer_id <> '"+infra.Customer+"'"),
		"the pseudonym has the orders that were counted before the erasure")
	e.copy.WaitFor("an event had no effect, because its customer was erased")
	infra.WaitForSample(t, e.copy.Admin(), 2, "outboxie_subscriber_erased_total", "messaging_consumer_group_name=emails")
}

// TestErasePlain checks what is left of an erased customer if events are plain: the events in the log and in the stream, and nothing else.
// Parked events and lost messages come back from the log as they are. A subscriber that applies such an event counts it for the customer again,
// and a second command removes that.
func TestErasePlain(t *testing.T) {
	e := newErasure(t, "plain")
	plan := e.erase(2)
	for _, says := range []string{
		"3 orders: they get a pseudonym", "1 dead letter with plain events: discarded", "6 plain events of these orders stay in the log until its retention ends",
		"emails: 1 event",
	} {
		require.Contains(t, plan, says)
	}
	require.NotContains(t, plan, "the key of the customer")
	e.erase(0, "--yes")
	require.Equal(t, []string{"outbox"}, keysOf(e.traces()))
	require.Equal(t, 1, count(t, e.db, `SELECT count(*) FROM dead_letters WHERE state = 'discarded' AND error = 'the customer was erased'
		AND convert_from(payload, 'UTF8') = '{"erased":true}'`))

	e.healAndRedrive()
	e.eventually(applied, 6-1+3+2) // the event of the dead letter is never applied
	require.Equal(t, []string{"outbox"}, keysOf(e.traces()), "the event that was redriven changes no total")
	found, _ := e.messagesWithTraces()
	require.Equal(t, 6, found)
	verdict := e.check()
	require.Equal(t, []checker.Check{checker.Effects}, verdict.Failed(), verdict)
	for _, finding := range verdict.Result(checker.Effects).Findings {
		require.Contains(t, finding, "position 5", "only the letter that was discarded, although a subscriber could handle it")
	}
	require.Contains(t, e.erase(0), "Nothing is left to erase.")
}

// TestSealedAndPlainEventsAlternate checks that PERSONAL_DATA can be changed while a service runs: a subscriber reads sealed and plain events of
// one order, and what it emits because of a sealed event is sealed with the same key.
func TestSealedAndPlainEventsAlternate(t *testing.T) {
	s := newSubscription(t, "PERSONAL_DATA=sealed")
	infra.Launch(t, s.environment, "subscribe", "--id", "emails", "--handler", "fulfillment")
	s.eventually("SELECT count(*) FROM subscriber_lanes", 1)
	sealed, other := s.order(infra.Customer), s.order(infra.Customer)
	s.pay(sealed)
	s.eventually("SELECT count(*) FROM outbox WHERE aggregate_type = 'fulfillment'", 1)

	s.api = infra.Serve(t, "plain", append(s.environment, "PERSONAL_DATA=plain")).API()
	s.pay(other)
	_, err := infra.Transition(s.api, sealed.ID, "cancel")
	require.NoError(t, err)
	s.eventually("SELECT count(*) FROM outbox WHERE aggregate_type = 'fulfillment'", 3)
	require.Equal(t, 1, count(t, s.db, "SELECT count(*) FROM customer_keys"))
	require.Equal(t, 4, count(t, s.db, "SELECT count(*) FROM outbox JOIN customer_keys ON key_id::text = headers ->> 'ce-sealedkey' WHERE payload ->> 'sealed' <> ''"))
	require.Equal(t, 4, count(t, s.db, "SELECT count(*) FROM outbox WHERE headers ->> 'ce-sealedkey' IS NULL AND payload ->> 'customer_id' = '"+infra.Customer+"'"))
	require.Zero(t, count(t, s.db, "SELECT count(*) FROM dead_letters"))
	s.eventually("SELECT count(*) FROM outbox_cursor WHERE position = (SELECT max(position) FROM outbox)", 1)
	requireStream(t, s.db, s.broker.URL, "ORDERS")
}

func keysOf(found map[string]int) (keys []string) {
	for key := range found {
		keys = append(keys, key)
	}
	return keys
}
