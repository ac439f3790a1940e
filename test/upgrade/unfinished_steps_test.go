package upgrade_test

import (
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/playground/ordercheck"
	"github.com/assylzhan-a/outboxie/outboxietest/checker"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// update is the whole update.
func (s *unfinished) update() {
	emails, reports := s.old("old-emails", "subscribe", "--id", "emails"), s.old("old-reports", "subscribe", "--id", "reports")
	emails.WaitFor("subscribed")
	reports.WaitFor("subscribed")
	requests := s.keyed()
	s.strand()
	stop := s.load()
	defer stop()
	s.applied("reports", 50)
	reports.Kill() // half-way: orders go on
	letters, parked := s.text(deadState), s.text(parkedState)

	current := infra.Serve(s.t, "new", s.environment)
	s.requireFirstAnswers(current, requests)
	s.requireFirstAnswers(current, s.keyed()) // the earlier program, on the tables of this one
	s.takeOver(current)
	s.requireFirstAnswers(s.serving, s.keyed())
	s.applied("emails", 50)
	copied := s.subscriber("new-emails", "emails")
	s.applied("emails", 50)
	require.Zero(s.t, emails.Stop(syscall.SIGTERM))
	copied.WaitFor("subscribed")
	s.subscriber("new-reports", "reports").WaitFor("subscribed")
	s.applied("emails", 50)
	s.applied("reports", 50)
	require.Zero(s.t, s.serving.Stop(syscall.SIGTERM))
	require.Equal(s.t, letters, s.text(deadState), "an update tries no dead letter again")
	require.Equal(s.t, parked, s.text(parkedState), "an update redrives nothing")

	s.repair()
	stop()
	s.requireVerdict()
}

// keyed places and pays an order at the present instance.
func (s *unfinished) keyed() []request {
	s.t.Helper()
	placed, paid, err := s.place(uuid.NewString(), 100, `{"reference": "first"}`)
	require.NoError(s.t, err)
	return []request{placed, paid}
}

// requireFirstAnswers requires that a request that is sent again, to another program, gets the answer that it got first. A different request with
// the same key is refused.
func (s *unfinished) requireFirstAnswers(at *infra.Process, requests []request) {
	s.t.Helper()
	for _, r := range requests {
		again := request{path: r.path, body: r.body, key: r.key}
		require.NoError(s.t, s.send(at.API(), &again))
		again.answer.TraceID = r.answer.TraceID
		require.Equal(s.t, r.answer, again.answer)
		other := request{path: r.path, body: strings.NewReplacer("first", "second", "1.00", "2.00").Replace(r.body), key: r.key}
		var problem *infra.Problem
		require.ErrorAs(s.t, s.send(at.API(), &other), &problem)
		require.Equal(s.t, http.StatusUnprocessableEntity, problem.Status)
	}
}

// strand makes the earlier program park the last events of an order, because the first of them is too large for the stream. And it makes the
// events of another order dead letters of emails.
func (s *unfinished) strand() {
	s.t.Helper()
	s.limit(1300)
	large, _, err := s.place(uuid.NewString(), 1, `{"reference": "`+strings.Repeat("€", 200)+`"}`)
	require.NoError(s.t, err)
	ship := request{path: "/orders/" + large.answer.ID + "/ship"}
	require.NoError(s.t, s.send(s.serving.API(), &ship))
	refused, _, err := s.place(stuck, 1, "{}")
	require.NoError(s.t, err)
	require.Eventually(s.t, func() bool { return s.count("SELECT count(*) FROM outbox_parked WHERE state = 'parked'") == 2 }, waitTimeout, 20*time.Millisecond)
	require.Eventually(s.t, func() bool {
		return s.count("SELECT count(*) FROM dead_letters WHERE state = 'dead'") == 1 && s.count("SELECT count(*) FROM dead_letters") == 2
	}, waitTimeout, 20*time.Millisecond)
	first, err := checker.ParseID(s.text("SELECT event_id FROM outbox WHERE aggregate_version = 1 AND aggregate_id = '" + refused.answer.ID + "'"))
	require.NoError(s.t, err)
	s.ledger.FailsForAWhile(first)
	s.limit(-1) // what is parked would fit now
}

// takeOver waits until this program leads, and the earlier program has found that it leads no longer. If the earlier program announces that it
// leads, it keeps the lease: then it stands still, and cannot resign. Customers order at both, before and after.
func (s *unfinished) takeOver(current *infra.Process) {
	s.t.Helper()
	s.placeAt(current.API()) // no request is in the former leader now
	if s.version == released {
		s.serving.Signal(syscall.SIGSTOP)
		current.WaitFor("became leader")
		s.applied("emails", 50)
		s.serving.Signal(syscall.SIGCONT)
	}
	current.WaitFor("became leader")
	s.serving.WaitFor("lost leadership")
	s.placeAt(s.serving.API())
	s.applied("emails", 50)
	requests := s.keyed()
	s.placeAt(current.API())
	s.requireFirstAnswers(current, requests)
}

// repair redrives what is parked, and has the subscriber try its dead letters again.
func (s *unfinished) repair() {
	s.t.Helper()
	operate := func(says string, args ...string) {
		s.t.Helper()
		said, err := infra.Outboxie(s.t, s.environment, args...)
		require.NoError(s.t, err)
		require.Contains(s.t, said, says)
	}
	operate("2 events of 1 aggregate", "outbox", "parked")
	operate("", "outbox", "redrive", "--all")
	require.Eventually(s.t, func() bool { return s.count("SELECT count(*) FROM outbox_parked WHERE state = 'redriven'") == 2 }, waitTimeout, 20*time.Millisecond)
	_, err := s.db.Exec(noLongerRefuse)
	require.NoError(s.t, err)
	operate("refused", "subscriber", "dead", "--id", "emails")
	operate("", "subscriber", "retry", "--id", "emails", "--all")
	require.Eventually(s.t, func() bool { return s.count("SELECT count(*) FROM dead_letters") == 0 }, waitTimeout, 20*time.Millisecond)
	operate("relaying", "outbox", "status")
}

// requireVerdict waits until every subscriber has applied every event, and has the checker compare everything.
func (s *unfinished) requireVerdict() {
	s.t.Helper()
	began := time.Now()
	missing := `SELECT count(*) FROM outbox CROSS JOIN (VALUES ('emails'), ('reports')) AS s (subscriber)
		WHERE NOT EXISTS (SELECT FROM inbox AS i WHERE i.event_id = outbox.event_id AND i.subscriber = s.subscriber AND applied_at IS NOT NULL)`
	require.Eventually(s.t, func() bool { return s.count(missing) == 0 }, waitTimeout, 20*time.Millisecond)
	ctx := s.t.Context()
	history := s.results.History(ctx)
	history.Subscribers, history.Ledger = []string{"emails", "reports"}, s.ledger.Ledger
	history.Recovery = checker.Recovery{Took: time.Since(began), Bound: waitTimeout}
	history.Service = ordercheck.New(s.ledger, ordercheck.ReadTotals(ctx, s.db), history.Subscribers...)
	verdict, err := checker.Verify(history)
	require.NoError(s.t, err)
	s.t.Logf("\n%s", verdict)
	require.Empty(s.t, verdict.Failed())
}
