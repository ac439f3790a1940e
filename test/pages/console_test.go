package pages_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.MainInMemory(m) }

// deployment is an instance and a subscriber as processes, with real servers.
type deployment struct {
	t           *testing.T
	db          *sql.DB
	environment []string
	instance    *infra.Process
	console     string // address of the instance's console
	order, dead string // ids of orders: one took effect, and the event of the other is a dead letter; empty without deployInTrouble
}

func deploy(t *testing.T, environment ...string) *deployment {
	t.Helper()
	database, broker := infra.Database(t), infra.Broker(t)
	d := &deployment{t: t, environment: append([]string{
		"DATABASE_URL=" + database, "NATS_URL=" + broker, "OUTBOX_LEASE_TTL=1s",
	}, environment...)}
	var err error
	d.db, err = sql.Open("pgx", database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.db.Close() })
	d.instance = infra.Serve(t, "app1", d.environment)
	d.instance.WaitFor("created the stream")
	d.console = "http://" + d.instance.Admin() + "/console"
	return d
}

func (d *deployment) subscribe(id string) *infra.Process {
	d.t.Helper()
	p := infra.Launch(d.t, append([]string{"INSTANCE_ID=" + id + "-1", "ADMIN_ADDR=127.0.0.1:0"}, d.environment...), "subscribe", "--id", id)
	p.WaitFor("subscribed")
	return p
}

func (d *deployment) sql(statement string, args ...any) {
	d.t.Helper()
	_, err := d.db.Exec(statement, args...)
	require.NoError(d.t, err)
}

// signIn opens a page of the console and signs in on the way.
func (b *browser) signIn(console, path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(console + path))
	b.shows("Admin token")
	b.fill("token", infra.AdminToken)
	b.press("Sign in")
}

// fill writes a text into the first field of a name.
func (b *browser) fill(name, text string) {
	b.t.Helper()
	b.shows("")
	require.Eventually(b.t, func() bool {
		return evaluate[bool](b, fmt.Sprintf(`(function() {
			const field = document.querySelector("main [name='" + %q + "']")
			if (field) { field.value = %q }
			return !!field })()`, name, text))
	}, 20*time.Second, 50*time.Millisecond, "there is no field %q", name)
}

// press presses a button of a form, and waits for the next page.
func (b *browser) press(button string) {
	b.t.Helper()
	b.follow("button", button)
}

// follow clicks the first element with a text, and waits for the next page.
func (b *browser) follow(kind, text string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		return evaluate[bool](b, fmt.Sprintf(`(function() {
			const found = [...document.querySelectorAll(%q)].find(n => n.innerText.trim() == %q)
			if (found) { document.documentElement.dataset.old = "1"; found.click() }
			return !!found })()`, kind, text))
	}, 20*time.Second, 50*time.Millisecond, "there is no %s %q", kind, text)
	require.Eventually(b.t, func() bool { // during a navigation, a script may fail
		old, err := chromedp.Run(b, chromedp.Evaluate[bool](`document.documentElement.dataset.old == "1" || document.readyState != "complete"`))
		return err == nil && !old
	}, 20*time.Second, 50*time.Millisecond, "no page follows %q", text)
}

// requireCalm checks that the pages have reported no error. The page's policy forbids what they report.
func (b *browser) requireCalm() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(b.t, b.complaints)
}

// TestConsoleShowsWhoLeads checks, with two viewers, that the overview refreshes by itself, shows the figures of a subscriber, and tells who
// took over when the leader is killed.
func TestConsoleShowsWhoLeads(t *testing.T) {
	d := deploy(t)
	d.subscribe("emails")
	other := infra.Serve(t, "app2", d.environment)
	b, second := open(t), open(t)
	b.signIn("http://"+other.Admin()+"/console", "")
	second.signIn("http://"+other.Admin()+"/console", "")
	for _, viewer := range []*browser{b, second} {
		viewer.shows("relaying")
		viewer.shows("app1, for")
		viewer.shows("emails: working, 0 behind")
	}
	_, err := infra.Place(d.instance.API())
	require.NoError(t, err)
	b.shows("up to position 1")
	b.requireCalm()
	d.instance.Kill()
	for _, viewer := range []*browser{b, second} {
		viewer.shows("app2, for")
		viewer.shows("relaying")
	}
	if *screenshots != "" { // a picture with something in it
		stop := infra.KeepOrdering(t, 2, func(int) (api, customer string) { return other.API(), infra.Customer })
		time.Sleep(20 * time.Second)
		b.screenshot("overview")
		stop()
	}
	b.requireCalm()
}

// TestConsoleSaysWhenTheConnectionIsLost checks that a page says that it is old while its process is gone, and comes back by itself.
func TestConsoleSaysWhenTheConnectionIsLost(t *testing.T) {
	d := deploy(t)
	proxy := infra.NewProxy(t, d.instance.Admin())
	b := open(t)
	b.signIn("http://"+proxy.Addr()+"/console", "")
	b.shows("relaying")
	lost := func() bool { return !evaluate[bool](b, "document.getElementById('lost').hidden") }
	require.False(t, lost())
	next := infra.Serve(t, "app2", d.environment)
	d.instance.Kill()
	require.Eventually(t, lost, 20*time.Second, 50*time.Millisecond)
	proxy.Move(next.Admin())
	require.Eventually(t, func() bool { return !lost() }, 20*time.Second, 50*time.Millisecond)
	b.shows("app2, for")
}

// TestConsoleRefusesOthers checks a wrong token, a page of another origin with a form for the console, and a name that resolves to the
// listener but is not its own.
func TestConsoleRefusesOthers(t *testing.T) {
	d := deploy(t)
	b := open(t)
	b.do(chromedp.Navigate(d.console + "/settings"))
	b.fill("token", "wrong")
	b.press("Sign in")
	b.shows("That is not the admin token of this process.")
	b.fill("token", infra.AdminToken)
	b.press("Sign in")
	b.shows("Settings")

	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<form method="post" action="%s/sign-out"><button>Send</button></form>`, d.console)
	}))
	defer page.Close()
	for _, host := range []string{"127.0.0.1", "localhost"} { // the same site, and another one
		b.do(chromedp.Navigate(strings.Replace(page.URL, "127.0.0.1", host, 1)))
		b.press("Send")
		b.shows("a page of another origin sent this form")
	}
	b.do(chromedp.Navigate(d.console))
	b.shows("relaying")

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.console, nil)
	require.NoError(t, err)
	request.Host = "rebound.example"
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusMisdirectedRequest, answer.StatusCode)
}

// taken returns what the pages have reported, and forgets it.
func (b *browser) taken() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	complaints := b.complaints
	b.complaints = nil
	return complaints
}

// deployInTrouble deploys an instance with a subscriber, an order that took effect, an order whose event is a dead letter, and a parked event.
// Totals cannot be written until the trigger "refuse" is dropped.
func deployInTrouble(t *testing.T) *deployment {
	t.Helper()
	d := deploy(t)
	d.subscribe("emails")
	placed, err := infra.Place(d.instance.API())
	require.NoError(t, err)
	d.order = placed.ID
	d.waitFor("SELECT count(*) FROM inbox", 1)
	d.sql(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE check_violation USING MESSAGE = 'totals are <closed>'; END $$`)
	d.sql(`CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON customer_totals FOR EACH ROW EXECUTE FUNCTION refuse()`)
	placed, err = infra.Place(d.instance.API())
	require.NoError(t, err)
	d.dead = placed.ID
	d.waitFor("SELECT count(*) FROM dead_letters WHERE state = 'dead'", 1)
	d.sql(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		VALUES (gen_random_uuid(), 'order', 'parked-1', 1, 'outboxie.order.paid.v1', 'elsewhere', '{"secret": "payload"}')`)
	d.waitFor("SELECT count(*) FROM outbox_parked WHERE state = 'parked'", 1)
	return d
}

// waitFor waits until a query returns a number.
func (d *deployment) waitFor(query string, want int) {
	d.t.Helper()
	require.Eventually(d.t, func() bool {
		found := 0
		require.NoError(d.t, d.db.QueryRow(query).Scan(&found))
		return found == want
	}, 20*time.Second, 50*time.Millisecond, query)
}

// TestConsoleRepairs checks, with a real broker and database, that a parked event is redriven, a dead letter is retried, and a subscriber is
// paused and resumed in the pages.
func TestConsoleRepairs(t *testing.T) {
	d := deployInTrouble(t)
	b := open(t)
	b.signIn(d.console, "/parked")
	b.shows("order/parked-1")
	b.shows("its subject elsewhere is not one of stream ORDERS")
	d.sql("ALTER TABLE outbox DISABLE TRIGGER USER; UPDATE outbox SET subject = 'orders.paid' WHERE aggregate_id = 'parked-1'; ALTER TABLE outbox ENABLE TRIGGER USER")
	b.press("Redrive")
	b.shows("Chosen: 1 parked event")
	d.waitFor("SELECT count(*) FROM outbox_parked WHERE state = 'parked'", 1)
	b.press("Redrive")
	d.waitFor("SELECT count(*) FROM outbox_parked WHERE state = 'redriven'", 1)

	b.do(chromedp.Navigate(d.console + "/letters/emails"))
	b.shows("totals are <closed>")
	d.sql("DROP TRIGGER refuse ON customer_totals")
	b.press("Retry")
	b.press("Retry")
	d.waitFor("SELECT count(*) FROM dead_letters WHERE state = 'dead' AND aggregate_id = '"+d.dead+"'", 0)
	d.waitFor("SELECT count(*) FROM inbox WHERE aggregate_id = '"+d.dead+"'", 1)

	b.do(chromedp.Navigate(d.console + "/subscribers/emails"))
	b.press("Pause …")
	b.press("Pause")
	b.shows("paused for")
	b.press("Resume …")
	b.press("Resume")
	b.shows("working")
	b.requireCalm()
}

// TestConsoleShowsTheJourney checks the newcomer's first minute: an order that is placed in the page arrives at a subscriber while the page
// is open, and is paid there. A stale page changes nothing.
func TestConsoleShowsTheJourney(t *testing.T) {
	d := deploy(t)
	d.subscribe("emails")
	b := open(t)
	b.signIn(d.console, "/orders")
	b.press("Place the order")
	b.shows("committed at")
	b.shows("emails")
	d.waitFor("SELECT count(*) FROM inbox", 1)
	b.shows("emails: took effect")
	b.screenshot("journey")
	b.press("Pay the order")
	d.waitFor("SELECT count(*) FROM inbox", 2)
	b.requireCalm()
}
