package console_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

var refused = fault.NewFingerprint("the broker refuses 7 bytes").ID

// TestParkedPage checks that the page shows the groups, the events and the totals, and no hostile text as it is.
func TestParkedPage(t *testing.T) {
	lot := openParkingLot(t)
	status, body := lot.get("/parked")
	requireHarmless(t, status, body)
	for _, part := range []string{
		"3 events in 2 groups.", refused, "the broker refuses &lt;n&gt; bytes", "100000 events of 70000 aggregates waiting in all.",
		"Not shown: 99995.", `href="/console/events/1"`, `href="/console/events/5"`, `aria-label="Redrive group ` + refused + `"`,
		`aria-label="Discard the event at position 3"`, "&lt;script&gt;alert(1)&lt;/script&gt;", "thing/b",
	} {
		require.Contains(t, body, part)
	}
	require.NotContains(t, body, "Counted ")
	_, body = lot.get("/parked")
	require.Contains(t, body, "Counted 0s ago.")
	_, body = open(t, console.Options{Parking: lot.parking, Parked: operating.UndecidedParked(lot.parking)}).get("/parked")
	require.Contains(t, body, "The numbers are not known yet")
}

// TestRedrive checks what each choice redrives, and that nothing is redriven before the last step.
func TestRedrive(t *testing.T) {
	for name, c := range map[string]struct {
		fields   []string
		planned  string
		done     string
		redriven []outbox.Position
	}{
		"group": {
			[]string{"group", refused},
			"Chosen: 2 parked events. Events of the same aggregates that wait behind: 2.",
			"To be redriven: 2 events, and the events behind. The leader does it within a second.",
			[]outbox.Position{1, 2, 3, 4},
		},
		"aggregate": {
			[]string{"aggregate", "thing/a"},
			"Chosen: 1 parked event. Events of the same aggregates that wait behind: 2.",
			"To be redriven: 3 events. The leader does it within a second.",
			[]outbox.Position{1, 2, 3},
		},
		"type": {
			[]string{"type", strangeText},
			"Chosen: 1 parked event. Events of the same aggregates that wait behind: 0.",
			"To be redriven: 1 event, and the events behind. The leader does it within a second.",
			[]outbox.Position{5},
		},
		"aggregate and type": {
			[]string{"aggregate", "thing/b", "type", relaytest.EventType},
			"Chosen: 1 parked event. Events of the same aggregates that wait behind: 0.",
			"To be redriven: 1 event, and the events behind. The leader does it within a second.",
			[]outbox.Position{4},
		},
		"strangeText aggregate": {
			[]string{"aggregate", "evil/" + strangeText},
			"Chosen: 1 parked event. Events of the same aggregates that wait behind: 0.",
			"To be redriven: 1 event. The leader does it within a second.",
			[]outbox.Position{5},
		},
		"all": {
			[]string{"all", "true"},
			"Chosen: 3 parked events. Events of the same aggregates that wait behind: 2.",
			"To be redriven: 5 events. The leader does it within a second.",
			[]outbox.Position{1, 2, 3, 4, 5},
		},
	} {
		t.Run(name, func(t *testing.T) {
			lot := openParkingLot(t)
			lot.get("/parked") // keeps the groups
			status, body := lot.post("/actions/parked-redrive", c.fields...)
			requireHarmless(t, status, body)
			require.Contains(t, body, c.planned)
			require.Empty(t, lot.in(relay.Redrive))
			status, body = lot.goOn(body)
			requireHarmless(t, status, body)
			require.Contains(t, body, c.done)
			require.Contains(t, body, "the leader does it soon")
			require.NotContains(t, body, "Counted ", "the action has changed the groups")
			require.Equal(t, c.redriven, lot.in(relay.Redrive))
		})
	}
}

// TestDiscardParked checks what each choice discards, and that nothing is discarded before somebody has confirmed twice.
func TestDiscardParked(t *testing.T) {
	for name, c := range map[string]struct {
		fields        []string
		planned, done string
		discarded     []outbox.Position
	}{
		"position": {
			[]string{"position", "2"},
			"If it is discarded, version 2 of thing/a never reaches any subscriber.",
			"Done. The event at position 2 is discarded.",
			[]outbox.Position{2},
		},
		"strangeText": {[]string{"position", "5"}, "never reaches any subscriber", "Done. The event at position 5 is discarded.", []outbox.Position{5}},
		"group": {
			[]string{"group", refused},
			"Chosen: 2 parked events. Events of the same aggregates that wait behind: 2.",
			"Done. Discarded: 2 events. The events behind are still parked.",
			[]outbox.Position{1, 4},
		},
		"aggregate": {
			[]string{"aggregate", "thing/a", "position", ""},
			"Chosen: 1 parked event. Events of the same aggregates that wait behind: 2.",
			"Done. Discarded: 1 event. The events behind are still parked.",
			[]outbox.Position{1},
		},
		"all": {
			[]string{"all", "true"},
			"Chosen: 3 parked events.", "Done. Discarded: 3 events. The events behind are still parked.",
			[]outbox.Position{1, 4, 5},
		},
	} {
		t.Run(name, func(t *testing.T) {
			lot := openParkingLot(t)
			status, body := lot.post("/actions/parked-discard", c.fields...)
			requireHarmless(t, status, body)
			require.Contains(t, body, c.planned)
			require.Empty(t, lot.in(relay.Discarded))
			status, body = lot.goOn(body)
			requireHarmless(t, status, body)
			require.Contains(t, body, c.planned)
			require.Contains(t, body, "This cannot be undone. Really?")
			require.Empty(t, lot.in(relay.Discarded))
			status, body = lot.goOn(body)
			requireHarmless(t, status, body)
			require.Contains(t, body, c.done)
			require.Equal(t, c.discarded, lot.in(relay.Discarded))
		})
	}
}

// TestDiscardOfLostEvent checks that a parked event that the log has lost can be discarded.
func TestDiscardOfLostEvent(t *testing.T) {
	lot := openParkingLot(t)
	lot.log.Delete(4)
	_, body := lot.post("/actions/parked-discard", "position", "4")
	require.Contains(t, body, "The log has no event at position 4.")
	_, body = lot.goOn(body)
	status, body := lot.goOn(body)
	require.Equal(t, http.StatusOK, status, body)
	require.Equal(t, []outbox.Position{4}, lot.in(relay.Discarded))
	status, body = lot.post("/actions/parked-discard", "position", "99", "step", "do")
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, body, "no event is parked at position 99")
}

// TestParkedChoicesAreJudged checks that a wrong choice is refused in every step and changes nothing.
func TestParkedChoicesAreJudged(t *testing.T) {
	lot := openParkingLot(t)
	for _, c := range []struct {
		action string
		fields []string
		says   string
	}{
		{"parked-redrive", nil, "nothing is chosen: choose either all, or some of group, type and aggregate"},
		{"parked-redrive", []string{"group", "", "all", ""}, "nothing is chosen"},
		{"parked-redrive", []string{"position", "1"}, "nothing is chosen"},
		{"parked-redrive", []string{"all", "true", "group", refused}, "the choice is not clear"},
		{"parked-redrive", []string{"all", "yes"}, "the field all must be true or empty"},
		{"parked-redrive", []string{"aggregate", "<script>alert(1)"}, "is neither the UUID of an order nor the TYPE/ID of another aggregate"},
		{"parked-redrive", []string{"type", "a", "type", "b"}, "the field type comes 2 times"},
		{"parked-redrive", []string{"group", "a\x00"}, "the field group is not text"},
		{"parked-discard", nil, "nothing is chosen: choose either position, all, or some of group, type and aggregate"},
		{"parked-discard", []string{"position", "1", "all", "true"}, "the choice is not clear"},
		{"parked-discard", []string{"position", "0"}, "is not a position: it must be a whole number from 1"},
		{"parked-discard", []string{"position", "x"}, "is not a position"},
	} {
		for _, step := range []string{"", "ask", "do"} {
			status, body := lot.post("/actions/"+c.action, append(c.fields, "step", step)...)
			require.Equal(t, http.StatusBadRequest, status, body)
			require.Contains(t, body, c.says)
			require.NotContains(t, body, "<script>alert")
		}
	}
	require.Len(t, lot.in(relay.Parked), 5)
	for _, action := range []string{"parked-redrive", "parked-discard"} {
		status, body := lot.post("/actions/"+action, "group", "none")
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, body, "There is no such parked event.")
		require.NotContains(t, body, "<button autofocus", "there is nothing to do")
	}
	status, body := lot.post("/actions/parked-redrive", "aggregate", "order/none", "step", "do")
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, body, "no event of order/none is parked")
}

// TestDiscardOfRedrivenEvent checks that an event that is not parked any more is not discarded.
func TestDiscardOfRedrivenEvent(t *testing.T) {
	lot := openParkingLot(t)
	lot.post("/actions/parked-redrive", "all", "true", "step", "do", "shown", "5")
	status, body := lot.post("/actions/parked-discard", "position", "1")
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, body, "the event at position 1 is redrive, not parked")
	_, body = lot.post("/actions/parked-redrive", "all", "true", "step", "do")
	require.Contains(t, body, "Nothing is parked.")
}

// TestMoreThanWasShown checks that the last step does nothing if it would touch more events than the page before showed. It then shows the new
// number and asks again, also twice if the action is final. If there are fewer events, the step goes on.
func TestMoreThanWasShown(t *testing.T) {
	lot := openParkingLot(t)
	for _, fields := range [][]string{{"shown", "4"}, {"shown", "-1"}, {"shown", "x"}, {"shown", "99999999999999999999"}, nil} {
		status, body := lot.post("/actions/parked-redrive", append(fields, "all", "true", "step", "do")...)
		require.Equal(t, http.StatusConflict, status, body)
		require.Contains(t, body, "Nothing was done, because the action would now touch 5 events; the page before showed ")
		require.Contains(t, body, "Chosen: 3 parked events.")
		require.NotContains(t, body, "This cannot be undone")
		require.Len(t, lot.in(relay.Parked), 5)
	}
	status, body := lot.post("/actions/parked-discard", "all", "true", "step", "do", "shown", "2")
	require.Equal(t, http.StatusConflict, status, body)
	require.Contains(t, body, "would now touch 3 events; the page before showed 2.")
	_, body = lot.goOn(body)
	require.Contains(t, body, "This cannot be undone. Really?")
	require.NotContains(t, body, "Nothing was done")
	require.Len(t, lot.in(relay.Parked), 5)
	require.NoError(t, lot.parking.Discard(t.Context(), 5))
	status, body = lot.goOn(body)
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, body, "Done. Discarded: 2 events.")

	box := openLetterBox(t)
	for action, most := range map[string]string{"letters-retry": "3", "letters-discard": "4"} {
		status, body := box.post("/actions/"+action, "subscriber", emails, "all", "true", "step", "do", "shown", "2")
		require.Equal(t, http.StatusConflict, status, body)
		require.Contains(t, body, "would now touch "+most+" events; the page before showed 2.")
		require.Equal(t, untouched, box.states())
	}
}
