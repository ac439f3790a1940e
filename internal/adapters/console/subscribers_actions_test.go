package console_test

import (
	"context"
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
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// subscribed is a console for the subscriber emails, whose lanes stand at sequence 10 of a stream with 20 events.
type subscribed struct {
	*browser
	*operating.Subscribers
	kept   *memory.Inbox
	stream *memory.Stream
	reader *memory.Reader
}

// LagsOf counts all messages as events.
func (s *subscribed) LagsOf(_ context.Context, places []operations.SubscriberProgress) (lags []operations.Lag, err error) {
	for _, place := range places {
		lags = append(lags, operations.Lag{Subscriber: place.Subscriber, Events: int64(s.stream.LastSequence() - place.Sequence)})
	}
	return lags, nil
}

func (s *subscribed) Lags(context.Context) ([]operations.Lag, error) { return nil, nil }

// Watch and View let the console watch: every view is a new reading.
func (s *subscribed) Watch() (end func()) { return func() {} }

func (s *subscribed) View() (operations.View, <-chan struct{}) {
	now := time.Now()
	reading := operations.Reading{At: now, Relay: operations.RelayStatus{Now: now, Sequence: s.stream.LastSequence()}}
	var err error
	reading.Subscribers, err = s.Summaries(context.Background(), s.stream.LastSequence())
	return operations.View{Reading: reading, Err: err}, nil
}

func openSubscribers(t *testing.T, adjust ...func(*console.Options)) *subscribed {
	t.Helper()
	s := &subscribed{kept: memory.NewInbox(), stream: memory.NewStream()}
	_, err := s.stream.Open(t.Context(), 1)
	require.NoError(t, err)
	s.publish(t, 20)
	s.reader = memory.NewReader(s.stream, "emails")
	s.Subscribers = operating.NewSubscribers(operating.SubscriberPorts{Operator: memory.NewOperator(s.kept), Stream: s.reader, Lags: s, Log: s.kept})
	require.NoError(t, s.kept.Subscribe(t.Context(), "emails", "totals", []string{"paid", "shipped"}))
	s.begin(t, "emails", 2, 10)
	s.browser = open(t, console.Options{Subscribers: s.Subscribers, Watcher: s}, adjust...)
	return s
}

func (s *subscribed) publish(t *testing.T, events int) {
	t.Helper()
	for range events {
		last := s.stream.LastSequence()
		_, err := s.stream.Publish(t.Context(), last, relaytest.NewEntries(outbox.Position(last), 1))
		require.NoError(t, err)
	}
}

func (s *subscribed) begin(t *testing.T, name string, lanes int, sequence uint64) {
	t.Helper()
	state, err := s.reader.State(t.Context())
	require.NoError(t, err)
	messages, err := s.reader.Read(t.Context(), sequence, inbox.ReadLimit{Count: 1, Bytes: 1 << 20})
	require.NoError(t, err)
	require.NoError(t, s.kept.CreateLanes(t.Context(), name, lanes, state.Created, messages[0].StreamPosition))
}

func (s *subscribed) overview(t *testing.T) (inbox.Overview, bool) {
	t.Helper()
	found, err := s.Summaries(t.Context(), s.stream.LastSequence())
	require.NoError(t, err)
	for _, one := range found {
		if one.Subscriber == "emails" {
			return one.Overview, true
		}
	}
	return inbox.Overview{}, false
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// fieldsOf returns the hidden fields of the form of a page that asks.
func fieldsOf(body string) (fields []string) {
	for _, field := range hidden.FindAllStringSubmatch(body, -1) {
		fields = append(fields, field[1], strings.NewReplacer("&#43;", "+", "&lt;", "<", "&gt;", ">", "&amp;", "&", "&#34;", `"`, "&#39;", "'").Replace(field[2]))
	}
	return fields
}

// steps takes all steps of an action, and requires before each step that check passes. It returns the pages.
func (b *browser) steps(action string, final bool, check func(), fields ...string) (pages []string) {
	b.t.Helper()
	count := 2
	if final {
		count = 3
	}
	for range count {
		check()
		status, body := b.post("/actions/"+action, fields...)
		require.Equal(b.t, http.StatusOK, status, body)
		pages = append(pages, body)
		fields = fieldsOf(body)
	}
	return pages
}

// verbCase is a verb with what its pages show.
type verbCase struct {
	name    string
	verb    string
	fields  []string
	final   bool
	prepare func(t *testing.T, s *subscribed)
	shows   []string // on the pages that ask
	done    string   // on the last page
	after   func(t *testing.T, one inbox.Overview, found bool)
}

var verbCases = []verbCase{
	{
		name: "pause", verb: "pause", shows: []string{"Subscriber emails stops: no event and no dead letter of it takes effect"},
		done:  "Subscriber emails is paused. To let it go on: outboxie subscriber resume --id emails",
		after: func(t *testing.T, one inbox.Overview, _ bool) { require.True(t, one.Paused) },
	},
	{
		name: "resume", verb: "resume", prepare: func(t *testing.T, s *subscribed) { require.NoError(t, s.Pause(t.Context(), "emails")) },
		shows: []string{"goes on, from where it stopped"}, done: "Subscriber emails goes on.",
		after: func(t *testing.T, one inbox.Overview, _ bool) { require.False(t, one.Paused) },
	},
	{
		name: "rewind", verb: "rewind", fields: []string{"to", " sequence:4 "},
		shows: []string{"Subscriber emails goes back to sequence 4, with 2 lanes, from sequence 10: 6 events are read again.", "The inbox drops what was applied"},
		done:  "Done. It was at sequence 10.",
		after: func(t *testing.T, one inbox.Overview, _ bool) {
			require.EqualValues(t, 4, inbox.Highest(one.Lanes).Sequence)
		},
	},
	{
		name: "skip", verb: "skip", fields: []string{"to", "end"}, final: true,
		shows: []string{"This would let subscriber emails skip at most 10 events, up to sequence 20, with 2 lanes, from sequence 10; none of them takes effect."},
		done:  "Subscriber emails goes on after sequence 20. It was at sequence 10, and skips at most 10 events.",
		after: func(t *testing.T, one inbox.Overview, _ bool) {
			require.EqualValues(t, 20, inbox.Lowest(one.Lanes).Sequence)
		},
	},
	{
		name: "lanes", verb: "lanes", fields: []string{"lanes", "5"}, shows: []string{"Subscriber emails gets 5 lanes, and has 2."},
		done:  "Subscriber emails has 5 lanes now, and had 2. All begin after sequence 10; what was applied is dropped.",
		after: func(t *testing.T, one inbox.Overview, _ bool) { require.Len(t, one.Lanes, 5) },
	},
	{
		name: "ignore", verb: "ignore", fields: []string{"type", "paid"}, final: true,
		shows: []string{"This would let subscriber emails ignore events of the type paid, and discard its dead letters of that type for ever.", "It has 0 dead letters"},
		done:  "Subscriber emails passes over events of the type paid now; 0 dead letters of that type were discarded.",
		after: func(t *testing.T, one inbox.Overview, _ bool) { require.Equal(t, []string{"shipped"}, one.Types) },
	},
	{
		name: "forget", verb: "forget", final: true,
		shows: []string{"This would end subscriber emails for ever: its lanes, dead letters and inbox are deleted, its effects stay.", "It has 2 lanes, 0 dead letters", "0 copies"},
		done:  "Subscriber emails is forgotten; 0 rows erased.",
		after: func(t *testing.T, one inbox.Overview, _ bool) { require.False(t, one.Forgotten.IsZero()) },
	},
	{
		name: "forget again", verb: "forget", final: true, prepare: forgotten, shows: []string{"is forgotten already"}, done: "0 rows erased",
		after: func(t *testing.T, one inbox.Overview, _ bool) { require.False(t, one.Forgotten.IsZero()) },
	},
	{
		name: "lift", verb: "lift", prepare: forgotten, shows: []string{"The tombstone of subscriber emails is removed."},
		done:  "The tombstone of subscriber emails is gone.",
		after: func(t *testing.T, _ inbox.Overview, found bool) { require.False(t, found) },
	},
}

// TestVerbsOfASubscriber checks each verb in all its steps: the first one shows what the verb would do, and nothing happens before the last.
func TestVerbsOfASubscriber(t *testing.T) {
	for _, test := range verbCases {
		t.Run(test.name, func(t *testing.T) {
			s := openSubscribers(t)
			if test.prepare != nil {
				test.prepare(t, s)
			}
			shape := func() any {
				one, found := s.overview(t)
				return []any{found, one.Paused, one.Types, one.Forgotten, sequences(one.Lanes)}
			}
			before := shape()
			pages := s.steps("subscriber-"+test.verb, test.final, func() { require.Equal(t, before, shape()) }, append(test.fields, "subscriber", "emails")...)
			for _, page := range pages[:len(pages)-1] {
				for _, text := range test.shows {
					require.Contains(t, page, text)
				}
			}
			require.Equal(t, test.final, strings.Contains(pages[len(pages)-2], "This cannot be undone. Really?"))
			require.Contains(t, pages[len(pages)-1], test.done)
			one, found := s.overview(t)
			test.after(t, one, found)
		})
	}
}

func forgotten(t *testing.T, s *subscribed) {
	t.Helper()
	_, err := s.Forget(t.Context(), "emails")
	require.NoError(t, err)
}

func sequences(lanes []inbox.Checkpoint) (all []uint64) {
	for _, lane := range lanes {
		all = append(all, lane.Sequence)
	}
	return all
}

// TestMoveWhosePlanChanged checks that the last step does nothing if it would do more than what was confirmed, and that it says why.
func TestMoveWhosePlanChanged(t *testing.T) {
	last := func(s *subscribed, verb string, final bool, to string) []string {
		_, body := s.post("/actions/subscriber-"+verb, "subscriber", "emails", "to", to)
		if final {
			_, body = s.post("/actions/subscriber-"+verb, fieldsOf(body)...)
		}
		return fieldsOf(body)
	}
	t.Run("more is skipped", func(t *testing.T) {
		s := openSubscribers(t)
		fields := last(s, "skip", true, "sequence:15")
		plan, err := s.Plan(t.Context(), "emails", operations.MoveTarget{Sequence: 5}, false)
		require.NoError(t, err)
		_, err = s.Move(t.Context(), plan)
		require.NoError(t, err)
		status, body := s.post("/actions/subscriber-skip", fields...)
		require.Equal(t, http.StatusConflict, status)
		require.Contains(t, body, "nothing was done, because the plan has changed since it was shown: 10 events would be skipped, not 5")
		one, _ := s.overview(t)
		require.EqualValues(t, 5, inbox.Highest(one.Lanes).Sequence)
	})
	t.Run("more lanes move, and the place is another one", func(t *testing.T) {
		s := openSubscribers(t)
		fields := last(s, "skip", true, "time:2100-01-01T00:00:00Z")
		_, _, err := s.SetLanes(t.Context(), "emails", 3)
		require.NoError(t, err)
		s.publish(t, 1)
		status, body := s.post("/actions/subscriber-skip", fields...)
		require.Equal(t, http.StatusConflict, status)
		require.Contains(t, body, "the place is at sequence 21, not at 20, and 3 lanes would move, not 2, and 11 events would be skipped, not 10")
	})
	t.Run("the end moves on", func(t *testing.T) {
		s := openSubscribers(t)
		fields := last(s, "skip", true, "end")
		s.publish(t, 5)
		status, body := s.post("/actions/subscriber-skip", fields...)
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, body, "goes on after sequence 20", "the events after the confirmed end are not skipped")
	})
	t.Run("the stream is another one", func(t *testing.T) {
		s := openSubscribers(t)
		fields := last(s, "rewind", false, "start")
		s.stream.Recreate()
		_, err := s.stream.Open(t.Context(), 1)
		require.NoError(t, err)
		s.publish(t, 3)
		status, body := s.post("/actions/subscriber-rewind", fields...)
		require.Equal(t, http.StatusConflict, status)
		require.Contains(t, body, "the stream is that of")
		one, _ := s.overview(t)
		require.EqualValues(t, 10, inbox.Highest(one.Lanes).Sequence)
	})
	t.Run("nothing is left", func(t *testing.T) {
		s := openSubscribers(t)
		fields := last(s, "rewind", false, "sequence:4")
		status, _ := s.post("/actions/subscriber-rewind", fields...)
		require.Equal(t, http.StatusOK, status)
		status, body := s.post("/actions/subscriber-rewind", fields...)
		require.Equal(t, http.StatusConflict, status)
		require.Contains(t, body, "there is nothing to rewind")
	})
}

// TestWrongFormsOfSubscribers checks the status and the text of each wrong form, in the first step and in the last one, and that wrong forms
// change nothing.
func TestWrongFormsOfSubscribers(t *testing.T) {
	s := openSubscribers(t)
	before, _ := s.overview(t)
	for _, test := range []struct {
		verb   string
		fields []string
		status int
		says   string
	}{
		{"pause", nil, http.StatusBadRequest, "must be the name of a subscriber"},
		{"pause", []string{"subscriber", "email"}, http.StatusNotFound, "there is no subscriber email; `outboxie subscriber status` lists the subscribers"},
		{"rewind", []string{"subscriber", "emails", "to", "12"}, http.StatusBadRequest, "must be sequence:N, position:N"},
		{"rewind", []string{"subscriber", "emails"}, http.StatusBadRequest, "is no place in the stream"},
		{"rewind", []string{"subscriber", "emails", "to", "sequence:99"}, http.StatusBadRequest, "the stream ends at sequence 20"},
		{"skip", []string{"subscriber", "emails", "to", "start"}, http.StatusConflict, "there is nothing to skip"},
		{"lanes", []string{"subscriber", "emails", "lanes", "two"}, http.StatusBadRequest, "must be a whole number from 1 to 1024"},
		{"lanes", []string{"subscriber", "emails", "lanes", "2000"}, http.StatusBadRequest, "must be a whole number from 1 to 1024"},
		{"ignore", []string{"subscriber", "emails"}, http.StatusBadRequest, "must be a type such as"},
		{"ignore", []string{"subscriber", "emails", "type", "<b>other"}, http.StatusNotFound, "shows the types that it wants"},
		{"lift", []string{"subscriber", "emails"}, http.StatusConflict, "is not forgotten; there is nothing to lift"},
	} {
		for _, step := range []string{"", "do"} {
			status, body := s.post("/actions/subscriber-"+test.verb, append(test.fields, "step", step)...)
			if step == "do" && (test.verb == "rewind" || test.verb == "skip") {
				require.Equal(t, http.StatusBadRequest, status, test)
				require.Contains(t, body, "the form has no plan that was shown")
				continue
			}
			require.Equal(t, test.status, status, "%v %s: %s", test, step, body)
			if step == "" {
				require.Contains(t, body, test.says)
			}
			require.NotContains(t, body, "<b>other")
		}
	}
	after, _ := s.overview(t)
	require.Equal(t, []any{before.Types, before.Paused, sequences(before.Lanes)}, []any{after.Types, after.Paused, sequences(after.Lanes)})

	_, body := s.post("/actions/subscriber-resume", "subscriber", "emails")
	require.Contains(t, body, "Subscriber emails is not paused.")
	require.NotContains(t, body, "Do nothing")
	require.NoError(t, s.Pause(t.Context(), "emails"))
	_, body = s.post("/actions/subscriber-pause", "subscriber", "emails")
	require.Contains(t, body, "is paused already")
	forgotten(t, s)
	status, body := s.post("/actions/subscriber-pause", "subscriber", "emails")
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, body, "outboxie subscriber forget --lift --id emails")
	_, body = s.get("/subscribers/emails")
	require.Contains(t, body, "Lift the tombstone")
	require.NotContains(t, body, "subscriber-pause")
}

// brokenSubscribers fails as a database does that does not answer.
type brokenSubscribers struct{ operations.SubscriberAdmin }

func (brokenSubscribers) Summaries(context.Context, uint64) ([]operations.SubscriberSummary, error) {
	return nil, inbox.ErrNoStream
}

func (brokenSubscribers) Forget(context.Context, string) (int, error) { return 5, context.Canceled }

// TestFailuresOfVerbs checks that an error of a port reaches the person with its remedy, and that an interrupted Forget says how to go on.
func TestFailuresOfVerbs(t *testing.T) {
	b := open(t, console.Options{Subscribers: brokenSubscribers{}})
	status, body := b.post("/actions/subscriber-pause", "subscriber", "emails")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "the first leader creates the stream")
	_, body = b.post("/actions/subscriber-forget", "subscriber", "emails", "step", "do")
	require.Contains(t, body, "forget subscriber emails (5 rows erased; run the same again to go on)")
}
