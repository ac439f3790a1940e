package pages_test

import (
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/test/damage"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// haltedRelay is a relay that halts, and the browser of the person who repairs it.
type haltedRelay struct {
	*damage.Service
	*browser
}

func newHaltedRelay(t *testing.T) *haltedRelay {
	t.Helper()
	return &haltedRelay{damage.New(t), open(t)}
}

// repair signs in, waits until the overview shows the halt, and adopts in the page about it, whose plan has all parts of plan.
func (h *haltedRelay) repair(halt relay.HaltReason, plan ...string) {
	h.t.Helper()
	h.signIn("http://"+h.Instance.Admin()+"/console", "")
	h.shows("halted: " + string(halt))
	h.follow("a", "See how to repair it")
	h.shows("halted: " + string(halt))
	h.press("Show the plan …")
	for _, part := range plan {
		h.shows(part)
	}
	h.press("Adopt")
	h.shows("This cannot be undone. Really?")
	h.requireHalted()
	h.press("Yes, Adopt")
	h.shows("Done.")
}

// requireHalted checks that the halt is still recorded.
func (h *haltedRelay) requireHalted() {
	h.t.Helper()
	halted := 0
	require.NoError(h.t, h.DB.QueryRow("SELECT count(*) FROM outbox_cursor WHERE halt_reason IS NOT NULL").Scan(&halted))
	require.Equal(h.t, 1, halted)
}

// requireLeads checks that the overview shows a relay that works, and places one more order. Then stored returns how many messages there are.
func (h *haltedRelay) requireLeads(messages uint64, stored func() uint64) {
	h.t.Helper()
	h.do(chromedp.Navigate("http://" + h.Instance.Admin() + "/console"))
	h.shows("relaying")
	h.shows("app, for")
	_, err := infra.Place(h.Instance.API())
	require.NoError(h.t, err)
	require.Eventually(h.t, func() bool { return stored() == messages }, 20*time.Second, 10*time.Millisecond, "there should be %d messages", messages)
	h.requireCalm()
}

// TestConsoleRepairsEachHalt checks, for each damage, that the page about a halt shows the plan of the repair, changes nothing before the last
// confirmation, and that the relay then goes on.
func TestConsoleRepairsEachHalt(t *testing.T) {
	for name, kind := range damage.Kinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHaltedRelay(t)
			h.Do(kind)
			plan := []string{kind.Plan}
			if kind.Halt == relay.HaltHistoryLost {
				plan = append(plan, "The stream holds 2 events that the log does not have.", "nats stream get ORDERS")
			}
			h.repair(kind.Halt, plan...)
			h.requireLeads(kind.Holds, h.Appended)
		})
	}
}

// TestConsoleRepairsAnUnfitStream checks that the page names the command for a setting of the stream that no adoption can repair, and refuses
// to adopt. It also checks that an adoption at a position publishes again the events that were stored under other subjects.
func TestConsoleRepairsAnUnfitStream(t *testing.T) {
	t.Parallel()
	h := newHaltedRelay(t)
	console := "http://" + h.Instance.Admin() + "/console"
	h.SetStream(func(c *jetstream.StreamConfig) { c.NoAck = true })
	h.signIn(console, "/halt")
	h.shows("halted: stream_unfit")
	h.shows("nats stream edit ORDERS --ack")
	h.do(chromedp.Navigate(console + "/halt"))
	h.press("Show the plan …")
	h.shows("Not done")
	h.shows("nats stream edit ORDERS --ack")
	h.follow("a", "To the page before")
	h.SetStream(func(c *jetstream.StreamConfig) { c.NoAck = false })
	h.shows("The relay is not halted")
	h.taken() // the page that refused

	transform := &jetstream.SubjectTransformConfig{Source: "orders.*", Destination: "elsewhere.{{wildcard(1)}}"}
	h.SetStream(func(c *jetstream.StreamConfig) { c.SubjectTransform = transform })
	_, err := infra.Place(h.Instance.API())
	require.NoError(t, err)
	h.shows("halted: stream_unfit")
	h.do(chromedp.Navigate(console + "/halt"))
	h.fill("position", "5")
	h.press("Show the plan …")
	h.shows("go on after position 5")
	h.press("Adopt")
	h.press("Yes, Adopt")
	h.SetStream(func(c *jetstream.StreamConfig) { c.SubjectTransform = nil })
	h.requireLeads(5+2, func() (messages uint64) { // the relay may have stored the sixth event under the other subject too
		h.UseStream(func(_ jetstream.JetStream, stream jetstream.Stream) {
			info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter("orders.>"))
			require.NoError(t, err)
			for _, count := range info.State.Subjects {
				messages += count
			}
		})
		return messages
	})
}
