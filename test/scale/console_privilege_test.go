//go:build scale

package scale_test

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// consoleUser is a person who uses the console of a process with a client that keeps cookies and follows redirects.
type consoleUser struct {
	t      *testing.T
	base   string
	client *http.Client
}

func signIn(t *testing.T, process *infra.Process) *consoleUser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	u := &consoleUser{t: t, base: "http://" + process.Admin() + "/console", client: &http.Client{Jar: jar}}
	status, _ := u.send("/sign-in", "token", infra.AdminToken)
	require.Equal(t, http.StatusOK, status)
	return u
}

// get returns the status and the text of a page, in which the characters of HTML are those of plain text.
func (u *consoleUser) get(path string) (status int, page string) {
	u.t.Helper()
	answer, err := u.client.Get(u.base + path)
	return u.read(answer, err)
}

func (u *consoleUser) send(path string, fields ...string) (status int, page string) {
	u.t.Helper()
	form := make(url.Values)
	for i := 0; i+1 < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	answer, err := u.client.PostForm(u.base+path, form)
	return u.read(answer, err)
}

func (u *consoleUser) read(answer *http.Response, err error) (status int, page string) {
	u.t.Helper()
	require.NoError(u.t, err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(u.t, err)
	return answer.StatusCode, html.UnescapeString(string(text))
}

// shows waits until a page has all of these parts.
func (u *consoleUser) shows(path string, parts ...string) {
	u.t.Helper()
	var page string
	require.Eventually(u.t, func() bool {
		_, page = u.get(path)
		for _, part := range parts {
			if !strings.Contains(page, part) {
				return false
			}
		}
		return true
	}, waitTimeout, 200*time.Millisecond, "%s never shows all of %q", path, parts)
}

var (
	hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	asks   = regexp.MustCompile(`<form method="post" action="/console(/actions/[a-z-]+)" class="inline">\s*<input type="hidden"`)
)

// act takes all steps of an action, and returns the status and the page to which the last step leads.
func (u *consoleUser) act(action string, fields ...string) (status int, page string) {
	u.t.Helper()
	status, page = u.send("/actions/"+action, fields...)
	for steps := 1; status == http.StatusOK && strings.Contains(page, `name="step"`); steps++ {
		require.LessOrEqual(u.t, steps, 3, page)
		_, main, _ := strings.Cut(page, "<main")
		require.Regexp(u.t, asks, main)
		fields = nil
		for _, field := range hidden.FindAllStringSubmatch(main, -1) {
			fields = append(fields, field[1], field[2])
		}
		status, page = u.send("/actions/"+action, fields...)
	}
	return status, page
}

// does takes all steps of an action, and requires that it was done.
func (u *consoleUser) does(action string, fields ...string) {
	u.t.Helper()
	status, page := u.act(action, fields...)
	require.Equal(u.t, http.StatusOK, status, "%s: %s", action, page)
	require.Contains(u.t, page, `<p class="said"`, "%s: %s", action, page)
}

// refused requires that a page or an action is refused because a right is missing, with the statement that grants the right.
func (u *consoleUser) refused(role string, status int, page string) {
	u.t.Helper()
	require.Equal(u.t, http.StatusForbidden, status, page)
	for _, part := range []string{"the database role of this process has no right to do this", "permission denied", "GRANT outboxie_operator TO " + role} {
		require.Contains(u.t, page, part)
	}
}

// TestConsoleWithLeastPrivilege checks the console of processes that have only the rights of docker/roles.sql. Without the rights of an operator,
// pages show what they can, and say which statement grants the rest; nothing that is refused is done. After the statement, without a restart,
// every page and every verb works.
func TestConsoleWithLeastPrivilege(t *testing.T) {
	t.Parallel()
	p := newPrivileged(t)
	outboxie(t, p.as(migrator, ""), 0, "migrate", "up")
	p.applyRoles()
	api := infra.Serve(t, "api", p.as(writer, "api", "OUTBOXIE_ROLES=api"))
	relay := infra.Launch(t, p.as(relayer, "relay", "OUTBOXIE_ROLES=relay", "INSTANCE_ID=relay1", "ADMIN_ADDR=127.0.0.1:0"), "serve")
	subscribe(t, "emails", p.as(subscriber, "subscriber"))
	placed, err := infra.Place(api.API())
	require.NoError(t, err)
	requireConsoleTroubles(t, p)
	ofAPI, ofRelay := signIn(t, api), signIn(t, relay)

	t.Run("without the rights of an operator", func(t *testing.T) {
		ofAPI.t, ofRelay.t = t, t
		requireConsoleWithoutOperator(t, p, ofAPI, ofRelay, placed.ID)
	})
	_, err = p.admin.Exec("GRANT outboxie_operator TO outboxie_relay; GRANT outboxie_operator TO outboxie_writer")
	require.NoError(t, err)
	t.Run("with the rights of an operator", func(t *testing.T) {
		ofAPI.t, ofRelay.t = t, t
		ofAPI.shows("", "emails</a>: working")
		ofAPI.shows("/orders/"+placed.ID, "emails: took effect")
		requireConsolePages(ofRelay)
		requireConsoleVerbs(t, p, ofRelay)
		requireConsoleAdopts(t, p, ofRelay, api)
	})
}

// requireConsoleTroubles parks two events of two aggregates, and makes three dead letters.
func requireConsoleTroubles(t *testing.T, p *privileged) {
	t.Helper()
	db := open(t, p.database(writer))
	for range 2 {
		_, err := db.Exec(appendStatement, uuid.NewString(), 1, strings.Repeat("x", 1_200_000))
		require.NoError(t, err)
	}
	for _, order := range []string{"x", "y", "z"} {
		_, err := db.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
			VALUES (gen_random_uuid(), 'order', $1, 1, 'outboxie.order.created.v1', 'orders.created', '{"amount": "nonsense"}')`, order)
		require.NoError(t, err)
	}
	p.waitFor(t, "SELECT count(*) FROM outbox_parked WHERE state = 'parked'", 2)
	p.waitFor(t, "SELECT count(*) FROM dead_letters WHERE state = 'dead'", 3)
}

// waitFor waits until a query returns a number.
func (p *privileged) waitFor(t *testing.T, query string, want int) {
	t.Helper()
	require.Eventually(t, func() bool { return count(t, p.admin, query) == want }, waitTimeout, 20*time.Millisecond, query)
}

func requireConsoleWithoutOperator(t *testing.T, p *privileged, ofAPI, ofRelay *consoleUser, order string) {
	grant := "GRANT outboxie_operator TO outboxie_writer"
	ofAPI.shows("", "relaying", "relay1, for", "The subscribers cannot be read: ", "permission denied for table", grant)
	ofAPI.shows("/subscribers", "The subscribers cannot be read: ", grant)
	ofAPI.shows("/letters", "The subscribers cannot be read: ", grant)
	ofAPI.shows("/orders/"+order, "committed at", "stored in the stream", "What subscribers did cannot be read: ", "permission denied for table", grant)
	ofAPI.shows("/orders", order)
	ofAPI.shows("/events", "outboxie.order.created.v1")
	ofAPI.shows("/parked", "2 events of 2 aggregates")

	ofRelay.shows("", "relaying", "relay1, for", "emails</a>: working")
	ofRelay.shows("/subscribers/emails", "working")
	ofRelay.shows("/parked", "2 events of 2 aggregates")
	ofRelay.shows("/letters", "emails")
	status, page := ofRelay.get("/letters/emails")
	ofRelay.refused(relayer, status, page)
	for action, fields := range map[string][]string{
		"letters-retry": {"all", "true"}, "letters-discard": {"all", "true"}, "subscriber-pause": nil, "subscriber-lanes": {"lanes", "2"},
		"subscriber-rewind": {"to", "start"}, "subscriber-ignore": {"type", "outboxie.order.paid.v1"}, "subscriber-forget": nil,
	} {
		status, page := ofRelay.act(action, append(fields, "subscriber", "emails")...)
		ofRelay.refused(relayer, status, page)
		status, page = ofAPI.act(action, append(fields, "subscriber", "emails")...)
		ofAPI.refused(writer, status, page)
	}
	status, page = ofAPI.act("parked-redrive", "all", "true")
	ofAPI.refused(writer, status, page)
	require.Equal(t, 3, count(t, p.admin, "SELECT count(*) FROM dead_letters WHERE state = 'dead'"))
	require.Equal(t, 2, count(t, p.admin, "SELECT count(*) FROM outbox_parked WHERE state = 'parked'"))
	require.Zero(t, count(t, p.admin, "SELECT count(*) FROM subscribers WHERE paused_at IS NOT NULL OR forgotten_at IS NOT NULL"))
}

// requireConsolePages checks that each page is shown completely.
func requireConsolePages(u *consoleUser) {
	u.shows("", "relaying", "emails</a>: working")
	for _, path := range []string{
		"/events", "/events/1?payload=1", "/parked", "/letters", "/letters/emails", "/subscribers", "/subscribers/emails", "/halt", "/settings", "/orders",
	} {
		status, page := u.get(path)
		require.Equal(u.t, http.StatusOK, status, "%s: %s", path, page)
		require.NotContains(u.t, page, "ermission denied", path)
	}
	u.shows("/letters/emails", "order/x")
	u.shows("/parked", "Redrive what is chosen")
}

func requireConsoleVerbs(t *testing.T, p *privileged, u *consoleUser) {
	var position, id string
	require.NoError(t, p.admin.QueryRow("SELECT min(position)::text FROM outbox_parked").Scan(&position))
	require.NoError(t, p.admin.QueryRow("SELECT event_id FROM dead_letters WHERE aggregate_id = 'x'").Scan(&id))
	letter := []string{"subscriber", "emails"}
	status, page := u.get("/letters/emails/" + id)
	require.Equal(t, http.StatusOK, status, page)

	u.does("parked-discard", "position", position)
	u.does("parked-redrive", "all", "true")
	p.waitFor(t, "SELECT count(*) FROM outbox_parked WHERE state = 'parked'", 1) // the broker refuses it again
	u.does("parked-discard", "all", "true")
	p.waitFor(t, "SELECT count(*) FROM outbox_parked WHERE state = 'discarded'", 2)

	u.does("letters-retry", append(letter, "event", id)...)
	u.does("letters-retry", append(letter, "aggregate", "order/y")...)
	p.waitFor(t, "SELECT count(*) FROM dead_letters WHERE state = 'dead'", 3)
	u.does("letters-discard", append(letter, "event", id)...)
	u.does("letters-discard", append(letter, "all", "true")...)
	p.waitFor(t, "SELECT count(*) FROM dead_letters WHERE state = 'dead'", 0)

	for _, verb := range [][]string{
		{"pause"},
		{"rewind", "to", "start"},
		{"skip", "to", "end"},
		{"resume"},
		{"lanes", "lanes", "2"},
		{"ignore", "type", "outboxie.order.cancelled.v1"},
	} {
		u.does("subscriber-"+verb[0], append(verb[1:], "subscriber", "emails")...)
	}
	_, err := p.admin.Exec("INSERT INTO inbox VALUES ('gone', gen_random_uuid(), 'order', 'x', 1, 1)")
	require.NoError(t, err)
	u.does("subscriber-forget", "subscriber", "gone")
	u.does("subscriber-lift", "subscriber", "gone")
}

// requireConsoleAdopts halts the relay, because its last event is lost, and repairs it.
func requireConsoleAdopts(t *testing.T, p *privileged, u *consoleUser, api *infra.Process) {
	p.waitFor(t, "SELECT count(*) FROM outbox_cursor WHERE position = (SELECT max(position) FROM outbox)", 1)
	_, err := p.admin.Exec("DELETE FROM outbox WHERE position = (SELECT max(position) FROM outbox)")
	require.NoError(t, err)
	placeMany(t, api.API(), 1)
	u.shows("/halt", "halted: history_lost")
	u.does("adopt")
	u.shows("", "relaying")
	requirePlaced(t, api.API())
}
