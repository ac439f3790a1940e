package console_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

var noAddress = fault.NewFingerprint("no address for customer 1").ID

// TestLettersPage checks that the first page lists each subscriber with the counts of the newest reading, and says how old the reading is.
func TestLettersPage(t *testing.T) {
	box := openLetterBox(t)
	status, body := box.get("/letters")
	requireHarmless(t, status, body)
	require.Contains(t, body, `<a href="/console`+emailsURL+`">`)
	require.Contains(t, body, `<td class="number">90000</td><td class="number">10000</td>`)
	require.Contains(t, body, "Read 0s ago.")

	view := operations.View{Err: fault.New(fault.Unavailable, "down", "no database"), Reading: operations.Reading{At: time.Now().Add(-time.Minute)}}
	_, body = open(t, console.Options{Watcher: stillWatcher{view}}).get("/letters")
	require.Contains(t, body, "The numbers are 1m0s old, because the state cannot be read: no database.")
	require.Contains(t, body, "No subscriber has begun.")
	view.At = time.Time{}
	_, body = open(t, console.Options{Watcher: stillWatcher{view}}).get("/letters")
	require.Contains(t, body, "The numbers are not known, because the state cannot be read: no database.")
	require.NotContains(t, body, "No subscriber has begun.")
}

// TestLettersOfSubscriber checks that the page of a subscriber shows the groups, the letters and the counts, and no hostile text as it is.
func TestLettersOfSubscriber(t *testing.T) {
	box := openLetterBox(t)
	status, body := box.get(emailsURL)
	requireHarmless(t, status, body)
	for _, part := range []string{
		"4 events in 3 groups.", noAddress, "no address for customer &lt;n&gt;", "90000 dead letters. Letters that are retried or wait: 10000.",
		`href="/console` + emailsURL + "/" + first + `"`, `href="/console` + emailsURL + `/odd%2Fid%3F%3Ci%3E"`, `href="/console/events/1"`,
		`aria-label="Retry event ` + second + `"`, `aria-label="Discard event ` + first + `"`, `aria-label="Retry group ` + noAddress + `"`,
	} {
		require.Contains(t, body, part)
	}
	_, list, _ := strings.Cut(body, `<h2 id="letters">`)
	require.NotContains(t, list, behind, "the list leaves out letters that wait")
	require.NotContains(t, list, "second line", "the list shows the first line of an error")
	require.NotContains(t, list, `aria-label="Retry event odd`, "nobody can retry an unreadable message")
}

// TestLetter checks that the page of a letter shows the headers and the whole error, and the payload only if somebody asks.
func TestLetter(t *testing.T) {
	box := openLetterBox(t)
	status, body := box.get(emailsURL + "/" + evil)
	requireHarmless(t, status, body)
	for _, part := range []string{"&lt;/script&gt;\\u202e\nsecond line", "<th scope=\"row\">note</th><td>&lt;script&gt;", "?payload=1", `href="/console/events/4"`} {
		require.Contains(t, body, part)
	}
	require.NotContains(t, body, "secret")
	status, body = box.get(emailsURL + "/" + evil + "?payload=1")
	requireHarmless(t, status, body)
	require.Contains(t, body, `{&#34;secret&#34;:&#34;&lt;script&gt;alert(1)&lt;/script&gt;\u202e&#34;}`)

	status, body = box.get(emailsURL + "/odd%2Fid%3F%3Ci%3E")
	requireHarmless(t, status, body)
	require.Contains(t, body, "it has no type")
	require.Contains(t, body, "so nobody can retry it")
	_, body = box.get(emailsURL + "/" + behind)
	require.Contains(t, body, "The event has never failed.")
	require.NotContains(t, body, "Retry this event")

	status, body = box.get(emailsURL + "/" + evil + "?payload=2")
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, body, "payload must be 1, or left out")

	box = openLetterBox(t, func(o *console.Options) { o.HidePayload = true })
	status, body = box.get(emailsURL + "/" + evil + "?payload=1")
	requireHarmless(t, status, body)
	require.NotContains(t, body, "secret")
	require.NotContains(t, body, "?payload=1\"")
	require.Contains(t, body, "This process never shows payloads.")
}

// TestUnknownLetters checks that an unknown subscriber and an unknown letter are not found, in every page and action.
func TestUnknownLetters(t *testing.T) {
	box := openLetterBox(t)
	for _, path := range []string{"/letters/nobody", "/letters/nobody/" + first} {
		status, body := box.get(path)
		require.Equal(t, http.StatusNotFound, status)
		require.Contains(t, body, "no subscriber &#34;nobody&#34; has received an event here")
	}
	status, body := box.get(emailsURL + "/none")
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, body, "has no dead letter none")
	for _, action := range []string{"letters-retry", "letters-discard"} {
		for _, step := range []string{"", "do"} {
			status, body = box.post("/actions/"+action, "subscriber", "nobody", "all", "true", "step", step)
			require.Equal(t, http.StatusNotFound, status)
			require.Contains(t, body, "no subscriber &#34;nobody&#34; has received an event here")
			status, _ = box.post("/actions/"+action, "subscriber", emails, "event", "none", "step", step)
			require.Equal(t, http.StatusNotFound, status)
		}
	}
}

const (
	dead      = inbox.Dead
	waits     = inbox.Waiting
	retrying  = inbox.Retrying
	discarded = inbox.Discarded
)

var untouched = []inbox.LetterState{dead, waits, dead, dead, dead}

// TestRetryLetters checks what each choice retries, and that nothing is retried before the last step.
func TestRetryLetters(t *testing.T) {
	for name, c := range map[string]struct {
		fields        []string
		planned, done string
		states        []inbox.LetterState
	}{
		"event": {
			[]string{"event", first},
			"Chosen: event " + first + " (" + relaytest.EventType + ", version 1 of thing/1, dead: no address for customer 1), behind which 1 event waits.",
			"Subscriber &#34;e mails/&lt;b&gt;&#34; retries event " + first + " when it runs.",
			[]inbox.LetterState{retrying, waits, dead, dead, dead},
		},
		"group": {
			[]string{"group", noAddress},
			"Chosen: 2 dead letters. Events of the same aggregates that wait behind: 1.", "retries 2 dead letters when it runs.",
			[]inbox.LetterState{retrying, waits, retrying, dead, dead},
		},
		"type":      {[]string{"type", strangeText}, "Chosen: 1 dead letter.", "retries 1 dead letter when it runs.", []inbox.LetterState{dead, waits, dead, retrying, dead}},
		"aggregate": {[]string{"aggregate", "thing/2"}, "Chosen: 1 dead letter.", "retries 1 dead letter when it runs.", []inbox.LetterState{dead, waits, retrying, dead, dead}},
		"all": {
			[]string{"all", "true"},
			"Left out: 1 unreadable message, because nobody can retry a message that is not an event.", "retries 3 dead letters when it runs.",
			[]inbox.LetterState{retrying, waits, retrying, retrying, dead},
		},
	} {
		t.Run(name, func(t *testing.T) {
			box := openLetterBox(t)
			box.get(emailsURL) // keeps the groups
			status, body := box.post("/actions/letters-retry", append(c.fields, "subscriber", emails)...)
			requireHarmless(t, status, body)
			require.Contains(t, body, c.planned)
			require.Equal(t, untouched, box.states())
			status, body = box.goOn(body)
			requireHarmless(t, status, body)
			require.Contains(t, body, c.done)
			require.Contains(t, body, `<h2 id="letters">`, "it leads back to the letters")
			require.NotContains(t, body, "Counted ", "the action has changed the groups")
			require.Equal(t, c.states, box.states())
		})
	}
}

// TestDiscardLetters checks what each choice discards, and that nothing is discarded before somebody has confirmed twice.
func TestDiscardLetters(t *testing.T) {
	for name, c := range map[string]struct {
		fields        []string
		planned, done string
		states        []inbox.LetterState
	}{
		"event": {
			[]string{"event", evil},
			"This would discard, for subscriber &#34;e mails/&lt;b&gt;&#34; and for ever, event " + evil, "Discarded for subscriber",
			[]inbox.LetterState{dead, waits, dead, discarded, dead},
		},
		"unreadable": {
			[]string{"event", odd},
			"which is not an event; no event waits behind it.", "which is not an event; no event waits behind it.",
			[]inbox.LetterState{dead, waits, dead, dead, discarded},
		},
		"group": {
			[]string{"group", noAddress},
			"Chosen: 2 dead letters. Events of the same aggregates that wait behind: 1.", ": 2 dead letters.",
			[]inbox.LetterState{discarded, retrying, discarded, dead, dead},
		},
		"type and aggregate": {
			[]string{"type", relaytest.EventType, "aggregate", "thing/2"}, "Chosen: 1 dead letter.", ": 1 dead letter.", []inbox.LetterState{dead, waits, discarded, dead, dead},
		},
		"all": {
			[]string{"all", "true"}, "Of these: 1 unreadable message.", ": 4 dead letters.", []inbox.LetterState{discarded, retrying, discarded, discarded, discarded},
		},
	} {
		t.Run(name, func(t *testing.T) {
			box := openLetterBox(t)
			status, body := box.post("/actions/letters-discard", append(c.fields, "subscriber", emails)...)
			requireHarmless(t, status, body)
			require.Contains(t, body, c.planned)
			require.Equal(t, untouched, box.states())
			status, body = box.goOn(body)
			requireHarmless(t, status, body)
			require.Contains(t, body, c.planned)
			require.Contains(t, body, "This cannot be undone. Really?")
			require.Equal(t, untouched, box.states())
			status, body = box.goOn(body)
			requireHarmless(t, status, body)
			require.Contains(t, body, c.done)
			require.Equal(t, c.states, box.states())
		})
	}
}

// TestLongErrorOfDiscardedLetter checks that the message about a discarded letter fits into its cookie, however long the error is.
func TestLongErrorOfDiscardedLetter(t *testing.T) {
	box := openLetters(t, []string{wordy})
	_, body := box.post("/actions/letters-discard", "subscriber", emails, "event", wordy, "step", "do")
	require.Contains(t, body, "Discarded for subscriber")
	require.Contains(t, body, "xxx…), behind which 0 events wait.")
}

// TestLettersThatCannotBeDecided checks what the plan says about a letter that cannot be retried or discarded.
func TestLettersThatCannotBeDecided(t *testing.T) {
	box := openLetterBox(t)
	require.NoError(t, box.inbox.Discard(t.Context(), emails, evil))
	for _, c := range [][3]string{
		{"letters-retry", odd, "It can only be discarded."},
		{"letters-retry", behind, "It waits behind an earlier event of its aggregate. Retry the earlier event."},
		{"letters-retry", evil, "Only a dead letter can be retried. This letter is discarded."},
		{"letters-discard", evil, "It was discarded before."},
	} {
		status, body := box.post("/actions/"+c[0], "subscriber", emails, "event", c[1])
		requireHarmless(t, status, body)
		require.Contains(t, body, c[2])
		require.NotContains(t, body, `name="step"`, "there is nothing to do")
	}
	for _, c := range []struct {
		id     string
		status int
	}{{odd, http.StatusConflict}, {behind, http.StatusConflict}, {evil, http.StatusNotFound}} {
		status, body := box.post("/actions/letters-retry", "subscriber", emails, "event", c.id, "step", "do")
		require.Equal(t, c.status, status, body)
	}
	status, body := box.post("/actions/letters-retry", "subscriber", emails, "group", "none")
	requireHarmless(t, status, body)
	require.Contains(t, body, "There is no such dead letter.")
	require.NotContains(t, body, `name="step"`)
}

// TestLetterChoicesAreJudged checks that a wrong choice is refused in every step and changes nothing.
func TestLetterChoicesAreJudged(t *testing.T) {
	box := openLetterBox(t)
	for _, fields := range [][]string{
		nil,
		{"event", ""},
		{"all", "true", "event", first},
		{"all", "true", "group", noAddress},
		{"event", first, "type", "x"},
		{"all", "1"},
		{"aggregate", "x"},
		{"event", first, "event", second},
		{"type", "\xff"},
		{"position", "1"},
	} {
		for _, action := range []string{"letters-retry", "letters-discard"} {
			for _, step := range []string{"", "ask", "do"} {
				status, body := box.post("/actions/"+action, append([]string{"subscriber", emails, "step", step}, fields...)...)
				require.Equal(t, http.StatusBadRequest, status, "%v\n%s", fields, body)
			}
		}
	}
	require.Equal(t, untouched, box.states())
}
