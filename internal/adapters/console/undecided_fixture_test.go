package console_test

import (
	"context"
	"errors"
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// strangeText is a text that would run a script, and reverse the text after it.
const strangeText = "<script>alert(1)</script>\u202e"

var (
	hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	values      = regexp.MustCompile(`value="[^"]*"`)
	target      = regexp.MustCompile(`<form method="post" action="` + console.Path + `(/actions/[a-z-]+)"`)
)

// goOn sends the form of a page that asks, as its button does.
func (b *browser) goOn(page string) (status int, body string) {
	b.t.Helper()
	_, main, _ := strings.Cut(page, "<main")
	action := target.FindStringSubmatch(main)
	require.NotNil(b.t, action, "the page has no form:\n%s", main)
	var fields []string
	for _, field := range hiddenField.FindAllStringSubmatch(main, -1) {
		fields = append(fields, html.UnescapeString(field[1]), html.UnescapeString(field[2]))
	}
	return b.post(action[1], fields...)
}

// undecidedInspector reads the log of a CursorStore.
type undecidedInspector struct {
	operations.RelayInspector
	log *memory.CursorStore
}

func (i undecidedInspector) List(ctx context.Context, filter operations.EventFilter) ([]operations.ListedEvent, error) {
	return i.log.List(ctx, filter)
}

// parkingLot is a console with parked events. Positions 1, 2 and 3 belong to the aggregate thing/a, position 4 to order/b. Position 5 has hostile
// texts.
type parkingLot struct {
	*browser
	log     *memory.Log
	parking *memory.Parking
}

func openParkingLot(t *testing.T, adjust ...func(*console.Options)) parkingLot {
	t.Helper()
	log := memory.NewLog()
	lease := memory.NewLease(time.Hour)
	cursors := memory.NewCursorStore(lease, log)
	lot := parkingLot{log: log, parking: memory.NewParking(cursors)}
	evil := relaytest.NewMessage(strangeText, 1)
	evil.Type, evil.Key.Type = strangeText, "evil"
	writer := log.Begin()
	require.NoError(t, writer.Append(t.Context(), relaytest.NewMessage("a", 1), relaytest.NewMessage("a", 2), relaytest.NewMessage("a", 3),
		relaytest.NewMessage("b", 1), evil))
	require.NoError(t, writer.Commit())
	term, err := memory.NewElector(lease, "leader").Acquire(t.Context(), 0)
	require.NoError(t, err)
	for _, entry := range log.Committed() {
		reason := map[outbox.Position]string{1: "the broker refuses 7 bytes", 4: "the broker refuses 8 bytes", 5: strangeText}[entry.Position]
		if reason == "" {
			log.Park(entry.Position, relay.Parked, 0)
			continue
		}
		log.Park(entry.Position, relay.Redrive, 0)
		cursor, err := cursors.Load(t.Context())
		require.NoError(t, err)
		require.NoError(t, lot.parking.Refuse(t.Context(), relay.WriteFence{Token: term.Token, Revision: cursor.Revision}, entry, reason))
	}
	lot.browser = open(t, console.Options{
		Relay: undecidedInspector{log: cursors}, Parking: lot.parking, Parked: operating.UndecidedParked(lot.parking),
		Watcher: stillWatcher{operations.View{Reading: operations.Reading{
			At: time.Now(), Relay: operations.RelayStatus{Now: time.Now(), ParkedEvents: 100_000, ParkedAggregates: 70_000},
		}}},
	}, adjust...)
	return lot
}

// in returns the positions of the events in a state.
func (l parkingLot) in(state relay.ParkedState) (positions []outbox.Position) {
	for _, event := range l.parking.Lot() {
		if event.State == state {
			positions = append(positions, event.Position)
		}
	}
	return positions
}

// The events of a letterBox.
const (
	first     = "11111111-1111-4111-8111-111111111111" // thing/1, dead
	behind    = "22222222-2222-4222-8222-222222222222" // thing/1, waits
	second    = "33333333-3333-4333-8333-333333333333" // thing/2, dead for the same reason
	evil      = "44444444-4444-4444-8444-444444444444" // hostile texts, dead
	odd       = "odd/id?<i>"                           // not an event
	wordy     = "55555555-5555-4555-8555-555555555555" // its error is long, and a letterBox does not have it
	emails    = "e mails/<b>"                          // the subscriber
	emailsURL = "/letters/e%20mails%2F%3Cb%3E"
)

// failing is a handler that fails for every event.
type failing struct{}

func (failing) Handle(_ context.Context, _ inbox.Tx, entry outbox.Entry) error {
	if entry.ID == evil {
		return errors.New(strangeText + "\nsecond line")
	}
	if entry.ID == wordy {
		return errors.New(strings.Repeat("x", 10_000))
	}
	return errors.New("no address for customer " + entry.Key.ID)
}

func (failing) Name() string                          { return "test" }
func (failing) Types() []string                       { return nil }
func (failing) External() bool                        { return false }
func (failing) Applied(context.Context, outbox.Entry) {}

// letterBox is a console with the dead letters of one subscriber.
type letterBox struct {
	*browser
	inbox *memory.Inbox
}

func openLetterBox(t *testing.T, adjust ...func(*console.Options)) letterBox {
	t.Helper()
	return openLetters(t, []string{first, behind, second, evil, odd}, adjust...)
}

// openLetters is openLetterBox with other events.
func openLetters(t *testing.T, ids []string, adjust ...func(*console.Options)) letterBox {
	t.Helper()
	box := letterBox{inbox: memory.NewInbox()}
	require.NoError(t, box.inbox.CreateLanes(t.Context(), emails, 1, "1", inbox.StreamPosition{}))
	seen, err := box.inbox.Heartbeat(t.Context(), emails, "here")
	require.NoError(t, err)
	from := seen.Lanes[0]
	from.Idle = 0
	batch := inbox.Batch{From: from, To: inbox.StreamPosition{Sequence: uint64(len(ids)), StoredAt: time.Now()}}
	for i, id := range ids {
		message := relaytest.NewMessage(map[string]string{first: "1", behind: "1", second: "2", evil: strangeText, wordy: "5"}[id], int64(i+1))
		message.ID, message.Headers = id, map[string]string{"note": strangeText}
		event := inbox.Event{Entry: outbox.Entry{Message: message, Position: outbox.Position(i + 1), RecordedAt: time.Now()}, Sequence: uint64(i + 1), Suspect: true}
		switch id {
		case evil:
			event.Type, event.Payload = strangeText, []byte(`{"secret":"`+strangeText+`"}`)
		case odd:
			event.Unreadable = errors.New("it has no type")
		}
		batch.Events = append(batch.Events, event)
	}
	_, err = box.inbox.Apply(t.Context(), emails, batch, failing{}, func(_ outbox.Entry, _ int, err error) (inbox.Failure, error) {
		return inbox.Failure{Cause: err, Permanent: true, Limit: 1}, nil
	})
	require.NoError(t, err)
	options := console.Options{
		DeadLetters: box.inbox, DeadGroups: operating.NewDeadLetters(box.inbox),
		Watcher: stillWatcher{operations.View{Reading: operations.Reading{
			At: time.Now(), Relay: operations.RelayStatus{Now: time.Now()},
			Subscribers: []operations.SubscriberSummary{{Overview: inbox.Overview{Subscriber: emails, Dead: 90_000, Waiting: 10_000}}},
		}}},
	}
	box.browser = open(t, options, adjust...)
	return box
}

// states returns the states of the letters, in the order of the events.
func (b letterBox) states() (states []inbox.LetterState) {
	b.t.Helper()
	for _, id := range []string{first, behind, second, evil, odd} {
		letter, err := b.inbox.Letter(b.t.Context(), emails, id)
		require.NoError(b.t, err)
		states = append(states, letter.State)
	}
	return states
}

// requireHarmless checks that a page is shown, and that it has no hostile text as it is.
func requireHarmless(t *testing.T, status int, body string) {
	t.Helper()
	require.Equal(t, http.StatusOK, status, body)
	require.NotContains(t, body, "<script>alert")
	require.NotContains(t, values.ReplaceAllString(body, ""), "\u202e", "only fields of forms have it")
}
