package e2e_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/app/watching"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/test/infra"
)

const (
	// usefulWithin is how soon a page should be useful beside a full load. Machines that test may be slower, by the factor slowerTests. If other
	// tests take so much of the machine that plainRead takes long, a page may take longer too: mostReads times as long.
	usefulWithin = 200 * time.Millisecond
	slowerTests  = 3
	mostReads    = 10
	plainRead    = "SELECT (SELECT sum(length(reason)) FROM outbox_parked) + (SELECT sum(length(error)) FROM dead_letters)"

	manyUndecided = 100_000
	eachPage      = 5 // how often each page is shown in a round; the median counts
	mostRounds    = 3 // a page that is not fast in one round, because another program took the machine, has another one
)

// fillUndecided parks 100,000 events, two of each aggregate, for reasons that all differ but have one fingerprint. It makes 100,000 dead
// letters of a subscriber, one for each aggregate, with small payloads. The first payloads have a megabyte. A thousand more letters wait
// behind the last dead one.
var fillUndecided = []string{
	`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', md5((n % 50000)::text), 1 + n / 50000, 'outboxie.order.placed.v1', 'orders.placed', '{"amount": 12}'
		FROM generate_series(0, 99999) AS n`,
	`INSERT INTO outbox_cursor (relay, position, token, updated_at, recorded_to, recorded_position)
		SELECT 'ORDERS', max(position), 1, now(), now(), max(position) FROM outbox`,
	`INSERT INTO outbox_parked (position, event_id, aggregate_type, aggregate_id, event_type, reason, state)
		SELECT position, event_id, aggregate_type, aggregate_id, event_type,
			'a message of ' || 1000000 + position || ' bytes for the event ' || event_id || ' is larger than the broker takes', 'parked'
		FROM outbox`,
	`INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, aggregate_type, aggregate_id, aggregate_version, position, recorded_at,
			event_type, subject, headers, payload, dead_at)
		SELECT 'emails', gen_random_uuid(), 'dead', 'handle ' || gen_random_uuid() || ': customer ' || n || ' has no address after 3 tries', 5, 'order',
			md5(n::text), 1, n, now(), 'outboxie.order.placed.v1', 'orders.placed', '{"note": "a header"}',
			CASE WHEN n <= 100020 THEN large ELSE convert_to('"' || md5(n::text) || '"', 'UTF8') END, now()
		FROM generate_series(100001, 200000) AS n,
			(SELECT convert_to('"' || string_agg(md5(n::text), '') || '"', 'UTF8') AS large FROM generate_series(1, 1 << 15) AS n) AS payloads`,
	`INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, aggregate_type, aggregate_id, aggregate_version, position, subject,
			headers, payload)
		SELECT subscriber, gen_random_uuid(), 'waiting', '', 0, aggregate_type, aggregate_id, 1 + n, position + n, subject, headers, payload
		FROM dead_letters, generate_series(1, 1000) AS n WHERE position = 200000`,
	`ANALYZE`,
}

// undecidedPages makes a console for each request, so that no page shows groups that an earlier one has counted.
type undecidedPages struct {
	t       *testing.T
	db      *bun.DB
	options console.Options
}

func (p undecidedPages) show(method, path string, form url.Values) string {
	p.t.Helper()
	pages := console.New(p.options)
	defer pages.Close()
	request := httptest.NewRequestWithContext(p.t.Context(), method, console.Path+path, strings.NewReader(form.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer := httptest.NewRecorder()
	pages.ServeHTTP(answer, request)
	require.Equal(p.t, http.StatusOK, answer.Code, "%s: %s", path, answer.Body)
	return answer.Body.String()
}

// require shows a page several times, and requires that it has a text, and that the median of the times is short.
func (p undecidedPages) require(name, text string, show func() string) {
	p.t.Helper()
	for round := 1; ; round++ {
		median, limit := p.measure(name, text, show)
		if median < limit {
			return
		}
		require.Less(p.t, round, mostRounds, "%s takes %s, and at most %s is allowed", name, median, limit)
	}
}

func (p undecidedPages) measure(name, text string, show func() string) (median, limit time.Duration) {
	p.t.Helper()
	took, plain := make([]time.Duration, eachPage), make([]time.Duration, eachPage)
	for i := range took {
		began := time.Now()
		_, err := p.db.ExecContext(p.t.Context(), plainRead)
		plain[i] = time.Since(began)
		require.NoError(p.t, err)
		began = time.Now()
		page := show()
		took[i] = time.Since(began)
		require.Contains(p.t, page, text, name)
	}
	slices.Sort(took)
	slices.Sort(plain)
	floor := plain[eachPage/2]
	median = took[eachPage/2]
	p.t.Logf("%-40s %5d ms, at most %d ms; a plain read of all rows: %d ms", name, median.Milliseconds(), took[eachPage-1].Milliseconds(), floor.Milliseconds())
	return median, max(slowerTests*usefulWithin, mostReads*floor)
}

func newUndecidedPages(t *testing.T, db *bun.DB) undecidedPages {
	t.Helper()
	letters, parking := postgres.NewInbox(db, postgres.InboxOptions{}), postgres.NewParking(db, "ORDERS")
	relays := postgres.NewRelayAdmin(db, "ORDERS", "ORDERS")
	watcher := watching.New(watching.Ports{Relay: relays, Subscribers: subscribersOf{overviews: postgres.NewOperator(db)}, Processes: postgres.NewProcesses(db)})
	_, newer := watcher.View()
	go watcher.Run(t.Context()) //nolint:errcheck // it returns nil
	<-newer
	return undecidedPages{t: t, db: db, options: console.Options{
		Open: true, Relay: relays, Parking: parking, Parked: operating.UndecidedParked(parking), DeadLetters: letters,
		DeadGroups: operating.NewDeadLetters(letters), Watcher: watcher, Logger: slog.New(slog.DiscardHandler),
	}}
}

// subscribersOf reads the summaries of subscribers from the database alone.
type subscribersOf struct {
	operations.SubscriberAdmin
	overviews inbox.Operator
}

func (s subscribersOf) Summaries(ctx context.Context, _ uint64) (all []operations.SubscriberSummary, err error) {
	overviews, err := s.overviews.Overviews(ctx)
	for _, overview := range overviews {
		all = append(all, operations.SubscriberSummary{Overview: overview})
	}
	return all, err
}

// TestPagesWithManyUndecidedEvents checks that the console's pages are fast with 100,000 parked events and 100,000 dead letters: the lists with
// their groups, one event, and the plans for a group, which count all of its events. No plan is carried out.
func TestPagesWithManyUndecidedEvents(t *testing.T) {
	address := infra.Database(t)
	began := time.Now()
	filling := openDB(t, address) // its statements have no time limit
	for _, statement := range fillUndecided {
		_, err := filling.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	db, err := postgres.Open(postgres.Options{URL: address, MaxOpenConns: 4})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	t.Logf("filled in %s", time.Since(began).Round(100*time.Millisecond))
	pages := newUndecidedPages(t, db)
	get := func(path string) func() string { return func() string { return pages.show(http.MethodGet, path, nil) } }

	pages.require("parking lot", "50000 events in 1 group", get("/parked"))
	pages.require("subscribers with dead letters", fmt.Sprint(manyUndecided), get("/letters"))
	pages.require("dead letters", fmt.Sprintf("%d events in 1 group", manyUndecided), get("/letters/emails"))
	pages.require("log, parked events", "parked", get("/events?state=parked"))
	pages.require("log, no redriven events", "<main", get("/events?state=redriven"))
	pages.require("one parked event", "is larger than the broker takes", get("/events/77"))
	for name, position := range map[string]int{"one letter with a megabyte": 100_001, "one letter, others behind": 200_000} {
		var id string
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT event_id FROM dead_letters WHERE position = ? AND state = 'dead'", position).Scan(&id))
		pages.require(name, "a header", get("/letters/emails/"+id))
		pages.require(name+", payload", "a header", get("/letters/emails/"+id+"?payload=1"))
	}

	for _, group := range []struct{ page, retry, discard, subscriber string }{
		{page: "/parked", retry: "parked-redrive", discard: "parked-discard"},
		{page: "/letters/emails", retry: "letters-retry", discard: "letters-discard", subscriber: "emails"},
	} {
		found := regexp.MustCompile(`name="group" value="([0-9a-f]{12})"`).FindStringSubmatch(pages.show(http.MethodGet, group.page, nil))
		require.NotNil(t, found)
		chosen := url.Values{"group": {found[1]}}
		if group.subscriber != "" {
			chosen.Set("subscriber", group.subscriber)
		}
		for _, action := range []string{group.retry, group.discard} {
			pages.require("plan of "+action, cmp.Or(map[string]string{"/parked": "50000"}[group.page], fmt.Sprint(manyUndecided)), func() string {
				return pages.show(http.MethodPost, "/actions/"+action, chosen)
			})
		}
	}
	var undecided int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM outbox_parked WHERE state = 'parked'").Scan(&undecided))
	require.Equal(t, manyUndecided, undecided, "no plan was carried out")
}
