package upgrade_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/playground/ordercheck"
	"github.com/assylzhan-a/outboxie/outboxietest/checker"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestUpdateWithUnfinishedWork checks that an update loses, repeats and reorders nothing of what earlier programs leave unfinished: parked
// events, dead letters, a subscriber that was killed half-way, request keys, and a leader that stands still while another instance takes over. The
// update itself repairs nothing. Operators then repair everything with the commands of this program, and the checker of outboxietest
// compares clients, log, stream and effects.
func TestUpdateWithUnfinishedWork(t *testing.T) {
	for _, version := range []*program{released, consumers} {
		t.Run(version.name, func(t *testing.T) { newUnfinished(t, version).update() })
	}
}

// unfinished is a shop whose clients remember each answer, and whose subscribers are emails and reports.
type unfinished struct {
	*shop
	version *program
	results *checker.Results
	ledger  *ordercheck.Ledger
	js      jetstream.JetStream
	serving *infra.Process // the earlier program's instance
}

// stuck is the customer whose orders emails cannot handle until an operator removes the trigger.
const stuck = "00000000-0000-4000-8000-000000000001"

const (
	refuse = `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = 'check_violation'; END $$;
		CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON customer_totals FOR EACH ROW
		WHEN (NEW.customer_id = '` + stuck + `' AND NEW.subscriber = 'emails') EXECUTE FUNCTION refuse()`
	noLongerRefuse = `DROP TRIGGER refuse ON customer_totals`

	deadState   = `SELECT coalesce(string_agg(concat_ws(' ', subscriber, event_id, state, attempts, position, md5(payload)), ', ' ORDER BY position), '') FROM dead_letters`
	parkedState = `SELECT coalesce(string_agg(concat_ws(' ', position, event_id, state, reason), ', ' ORDER BY position), '') FROM outbox_parked`
)

// newUnfinished starts an instance of an earlier program, and has the checker keep all effects.
func newUnfinished(t *testing.T, version *program) *unfinished {
	t.Helper()
	s := &unfinished{shop: newShop(t, version), version: version, ledger: ordercheck.NewLedger()}
	s.serving = s.old("old", "serve")
	s.placeAt(s.serving.API())
	address := func(setting int) string { _, value, _ := strings.Cut(s.environment[setting], "="); return value }
	source := checker.Source{DatabaseURL: address(0), NATSURL: address(1), Stream: "ORDERS"}
	nc, err := nats.Connect(source.NATSURL)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	s.js, err = jetstream.New(nc)
	require.NoError(t, err)
	require.Eventually(t, func() bool { _, err := s.js.Stream(t.Context(), "ORDERS"); return err == nil }, waitTimeout, 20*time.Millisecond)
	s.results, err = checker.Open(t.Context(), source)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.results.Close() })
	require.NoError(t, s.results.Record(t.Context()))
	_, err = s.db.Exec(refuse)
	require.NoError(t, err)
	return s
}

// request is a POST of a client. The answer is empty until it was sent.
type request struct {
	path, body, key string
	answer          infra.Order
}

// send sends a request to the instance at api, and notes the version in the answer.
func (s *unfinished) send(api string, r *request) error {
	var headers []string
	if r.key != "" {
		headers = append(headers, "Idempotency-Key: "+r.key)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), waitTimeout)
	defer cancel()
	if _, err := (infra.Client{Address: api}).Call(ctx, http.MethodPost, r.path, r.body, &r.answer, headers...); err != nil {
		return fmt.Errorf("%s %s: %w", r.path, r.body, err)
	}
	id, err := checker.ParseID(r.answer.ID)
	s.ledger.OrderAcknowledged(id, r.answer.Version)
	return err
}

// place places an order at the present instance, and pays it. No customer places two orders with the same amount.
func (s *unfinished) place(customer string, minor int64, payment string) (placed, paid request, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	id, err := checker.ParseID(customer)
	if err != nil {
		return placed, paid, err
	}
	placement := ordercheck.Placement{Customer: id, Minor: minor}
	s.ledger.OrderRequested(placement)
	body := fmt.Sprintf(`{"customer_id": %q, "amount": %d.%02d}`, customer, minor/100, minor%100)
	placed = request{path: "/orders", body: body, key: uuid.NewString()}
	if err := s.send(s.api, &placed); err != nil {
		return placed, paid, err
	}
	order, err := checker.ParseID(placed.answer.ID)
	if err != nil {
		return placed, paid, err
	}
	s.ledger.OrderAnswered(placement, order)
	paid = request{path: "/orders/" + placed.answer.ID + "/pay", body: payment, key: uuid.NewString()}
	return placed, paid, s.send(s.api, &paid)
}

// load has two customers place and pay orders until stop is called.
func (s *unfinished) load() (stop func()) {
	var working sync.WaitGroup
	ended := make(chan struct{})
	for range 2 {
		customer := uuid.NewString()
		working.Go(func() {
			for minor := int64(1); ; minor++ {
				select {
				case <-ended:
					return
				default:
				}
				if _, _, err := s.place(customer, minor, "{}"); err != nil {
					s.t.Error(err)
					return
				}
			}
		})
	}
	return sync.OnceFunc(func() {
		close(ended)
		working.Wait()
	})
}

// limit sets the size of the largest message that the stream takes; -1: no limit.
func (s *unfinished) limit(size int32) {
	s.t.Helper()
	stream, err := s.js.Stream(s.t.Context(), "ORDERS")
	require.NoError(s.t, err)
	config := stream.CachedInfo().Config
	config.MaxMsgSize = size
	_, err = s.js.UpdateStream(s.t.Context(), config)
	require.NoError(s.t, err)
}

func (s *unfinished) text(query string) (text string) {
	s.t.Helper()
	require.NoError(s.t, s.db.QueryRow(query).Scan(&text))
	return text
}

// applied waits until a subscriber has applied more than some further events.
func (s *unfinished) applied(subscriber string, more int) {
	s.t.Helper()
	query := "SELECT count(*) FROM inbox WHERE applied_at IS NOT NULL AND subscriber = '" + subscriber + "'"
	before := s.count(query)
	require.Eventually(s.t, func() bool { return s.count(query) > before+more }, waitTimeout, 20*time.Millisecond, "%s stands still", subscriber)
}
