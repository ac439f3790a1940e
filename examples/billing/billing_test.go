package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestInvoices checks the service from the outside: the answers of its API, the balance, what the mailer sends, readiness, and that it stops when it
// is asked to.
func TestInvoices(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	var letters []string
	mails := server(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		letters = append(letters, r.Header.Get("Event-Type")+" "+string(body))
	}))
	p := w.billing("billing", "api,relay,balance,mailer", mails)
	p.start()
	p.awaitAPI()

	issued := ask(t, http.MethodPost, p.url+"/invoices", `{"customer": "ada", "cents": 1250}`, http.StatusCreated)
	require.Equal(t, Invoice{ID: issued.ID, Customer: "ada", Cents: 1250, Status: Issued, Version: 1}, issued.Invoice)
	require.Equal(t, issued.Invoice, ask(t, http.MethodGet, p.url+"/invoices/"+issued.ID, "", http.StatusOK).Invoice)
	paid := ask(t, http.MethodPost, p.url+"/invoices/"+issued.ID+"/pay", "", http.StatusOK)
	require.Equal(t, []any{Paid, int64(2)}, []any{paid.Status, paid.Version})
	require.Equal(t, "the invoice is paid", ask(t, http.MethodPost, p.url+"/invoices/"+issued.ID+"/void", "", http.StatusConflict).Detail)
	other := ask(t, http.MethodPost, p.url+"/invoices", `{"customer": "ada", "cents": 5}`, http.StatusCreated)
	ask(t, http.MethodPost, p.url+"/invoices/"+other.ID+"/void", "", http.StatusOK)
	ask(t, http.MethodPost, p.url+"/invoices", `{"customer": "ada", "cents": 7}`, http.StatusCreated)

	for body, status := range map[string]int{
		`{`: http.StatusBadRequest, `{"customer": "", "cents": 1}`: http.StatusUnprocessableEntity,
		`{"customer": "a\u0000", "cents": 1}`: http.StatusUnprocessableEntity, `{"customer": "ada", "cents": 0}`: http.StatusUnprocessableEntity,
		strings.Repeat(" ", maxBody+1): http.StatusBadRequest,
	} {
		require.NotEmpty(t, ask(t, http.MethodPost, p.url+"/invoices", body, status).Detail)
	}
	ask(t, http.MethodGet, p.url+"/invoices/%00", "", http.StatusNotFound)

	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(letters) == 5 && w.count("SELECT count(*) FROM inbox WHERE applied_at IS NOT NULL") == 10
	}, patience, 20*time.Millisecond, "%v", p.log)
	require.EqualValues(t, 1, w.count("SELECT count(*) FROM balances WHERE customer = 'ada' AND issued = 1262 AND paid = 1250 AND voided = 5 AND owed = 7"))
	require.Contains(t, letters, `acme.invoice.paid.v1 {"customer":"ada","cents":1250}`)

	ready, err := http.Get(p.admin(t) + "/readyz")
	require.NoError(t, err)
	require.NoError(t, ready.Body.Close())
	require.Equal(t, http.StatusOK, ready.StatusCode)
	live := openPage(t, p.admin(t))
	began := time.Now()
	p.stop()
	require.Less(t, time.Since(began), shutdownTimeout, "an open page of the console delays the end")
	_, err = io.Copy(io.Discard, live)
	require.NoError(t, err)
}

// openPage signs in at the console, and opens the live events of a page, which do not end by themselves.
func openPage(t *testing.T, admin string) io.Reader {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := &http.Client{Jar: jar}
	signedIn, err := client.PostForm(admin+"/console/sign-in", url.Values{"token": {token}})
	require.NoError(t, err)
	require.NoError(t, signedIn.Body.Close())
	page, err := client.Get(admin + "/console/live")
	require.NoError(t, err)
	t.Cleanup(func() { _ = page.Body.Close() })
	require.Equal(t, "text/event-stream", page.Header.Get("Content-Type"))
	return page.Body
}

// admin returns the URL of the admin listener, which the log has.
func (p *process) admin(t *testing.T) string {
	t.Helper()
	_, rest, found := strings.Cut(p.log(), "for=admin url=")
	require.True(t, found, p.log())
	return strings.Fields(rest)[0]
}

// answered is an invoice or a problem.
type answered struct {
	Invoice
	Detail string `json:"detail"`
}

// ask sends a request, and requires an answer with this status.
func ask(t *testing.T, method, address, body string, status int) (a answered) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewBufferString(body))
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, status, answer.StatusCode, "%s %s %s: %s", method, address, body, text)
	var fields struct { // a problem's status is a number
		Detail string `json:"detail"`
	}
	if status >= 400 {
		require.Equal(t, "application/problem+json", answer.Header.Get("Content-Type"))
		require.NoError(t, json.Unmarshal(text, &fields))
		return answered{Detail: fields.Detail}
	}
	require.NoError(t, json.Unmarshal(text, &a.Invoice))
	return a
}

// TestOneOfManyChangesWins checks that of requests that change an invoice at the same time one succeeds, and the others get 409.
func TestOneOfManyChangesWins(t *testing.T) {
	w := newWorld(t)
	p := w.billing("billing", "api,relay", "")
	p.start()
	defer p.signal(syscall.SIGKILL, true)
	p.awaitAPI()
	for range 20 {
		issued := ask(t, http.MethodPost, p.url+"/invoices", `{"customer": "ada", "cents": 1}`, http.StatusCreated)
		statuses := make(chan int, 8)
		for i := range cap(statuses) {
			go func() {
				answer, err := http.Post(p.url+"/invoices/"+issued.ID+[]string{"/pay", "/void"}[i%2], "", nil)
				if err != nil {
					statuses <- 0
					return
				}
				_ = answer.Body.Close()
				statuses <- answer.StatusCode
			}()
		}
		count := make(map[int]int)
		for range cap(statuses) {
			count[<-statuses]++
		}
		require.Equal(t, map[int]int{http.StatusOK: 1, http.StatusConflict: 7}, count)
	}
	require.EqualValues(t, 40, w.count("SELECT count(*) FROM outbox"))
}

// TestTheBinaryHasNoServers checks that the service does not contain the servers of its tests.
func TestTheBinaryHasNoServers(t *testing.T) {
	list := func(folder string) string {
		output, err := exec.CommandContext(t.Context(), "go", "list", "-deps", folder).Output()
		require.NoError(t, err)
		return string(output)
	}
	const nats = "github.com/nats-io/nats-server/"
	require.Contains(t, list("./cmd/devservers"), nats)
	for _, server := range []string{nats, "fergusstrange/embedded-postgres", "outboxietest/"} {
		require.NotContains(t, list("."), server)
	}
}
