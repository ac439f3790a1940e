package postgres_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/inboxtest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

func TestEmitter(t *testing.T) {
	inboxtest.TestEmitter(t, func(t *testing.T) inboxtest.EmitStore {
		h := newHarness(t)
		return inboxtest.EmitStore{LetterStore: h.letterStore(), Emitter: postgres.NewEmitter(), Log: h.log}
	})
}

// TestEmittedIsWrittenLast checks that one statement writes all emitted events, sorted by aggregate, after all other effects.
// The transaction keeps its idle timeout.
func TestEmittedIsWrittenLast(t *testing.T) {
	h := newHarness(t)
	sent := &statements{}
	hooked := *h
	hooked.db = h.db.WithQueryHook(sent)
	require.NoError(t, withEffects(t.Context(), &hooked, func(effects postgres.Effects) error {
		for _, cause := range relaytest.NewEntries(0, 3) {
			for _, aggregate := range []string{"b", "a"} {
				message := relaytest.NewMessage(aggregate, int64(cause.Position))
				require.NoError(t, postgres.NewEmitter().Emit(t.Context(), effects.Tx(), cause, message))
			}
		}
		require.NoError(t, postgres.NewTotals().Add(t.Context(), effects.Tx(), newCustomer(), value.NewMoney(1, "USD")))
		return nil
	}))
	require.Equal(t, []string{"BEGIN", "INSERT", "INSERT", "COMMIT"}, sent.operations)
	require.Contains(t, sent.queries[1], "customer_totals")
	require.NotContains(t, strings.Join(sent.queries, "\n"), "idle_in_transaction_session_timeout")
	var written []string
	require.NoError(t, h.others.NewRaw("SELECT aggregate_id || aggregate_version FROM outbox ORDER BY position").Scan(t.Context(), &written))
	require.Equal(t, []string{"a1", "a2", "a3", "b1", "b2", "b3"}, written)
	page, err := h.log.After(t.Context(), outbox.Progress{}, relay.ReadLimit{Count: 10, Bytes: 1 << 20})
	require.NoError(t, err)
	require.Len(t, page.Entries, 6)
}

// TestEmittingWithoutTheRightIsAnOutage checks a subscriber that lacks the right to append to the log. The error counts as an
// outage, because no event is at fault, and says what to do. With the right, the same batch is applied.
func TestEmittingWithoutTheRightIsAnOutage(t *testing.T) {
	h := newHarness(t)
	address, err := url.Parse(h.address)
	require.NoError(t, err)
	role := strings.ReplaceAll(h.name, "-", "_") + "_reader"
	for _, statement := range []string{
		"CREATE ROLE " + role + " LOGIN PASSWORD 'secret'", "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO " + role,
		"REVOKE INSERT ON outbox FROM " + role,
	} {
		exec(t, h.others, statement)
	}
	t.Cleanup(func() {
		_, err := h.others.ExecContext(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role)
		require.NoError(t, err)
	})
	address.User = url.UserPassword(role, "secret")
	in := newInbox(open(t, postgres.Options{URL: address.String()}))
	require.NoError(t, in.CreateLanes(t.Context(), emails, 1, "S", inbox.StreamPosition{}))
	event := relaytest.NewEntries(0, 1)[0]
	apply := func() error {
		view, err := in.Heartbeat(t.Context(), emails, "copy")
		require.NoError(t, err)
		batch := inbox.Batch{From: view.Lanes[0], To: inbox.StreamPosition{Sequence: 1}, Events: []inbox.Event{{Entry: event, Sequence: 1, Suspect: true}}}
		_, err = in.Apply(t.Context(), emails, batch, handlerFunc(func(ctx context.Context, tx inbox.Tx, cause outbox.Entry) error {
			return postgres.NewEmitter().Emit(ctx, tx, cause, relaytest.NewMessage("follower", 1))
		}), func(_ outbox.Entry, _ int, err error) (inbox.Failure, error) { return inbox.Failure{}, err })
		return err
	}
	err = apply()
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "run this subscriber as outboxie_emitter")
	exec(t, h.others, "GRANT INSERT ON outbox TO "+role)
	require.NoError(t, apply())
}
