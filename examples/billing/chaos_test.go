package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

var (
	duration = flag.Duration("duration", 12*time.Second, "how long TestChaos injects faults")
	seed     = flag.Uint64("seed", 0, "of the faults of TestChaos; 0 takes a random one")
)

const catchUp = 60 * time.Second // allowed after the last fault

// TestChaos checks that nothing is lost, doubled or reordered while processes of the service are killed, frozen and stopped under load. The
// endpoint of the mailer fails now and then, too. At the end the checker, which shares no code with the engine, compares the log, the stream, the
// effects, the calls and the balances.
func TestChaos(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 0))
	w := newWorld(t)
	mails := newMailbox()
	address := server(t, mails)
	var processes []*process
	for i := range 3 {
		processes = append(processes, w.billing(fmt.Sprintf("billing-%d", i+1), "api,relay,balance,mailer", address, "SUBSCRIBER_LANES=4"))
	}
	require.NoError(t, checker.Record(t.Context(), w.db))
	for _, p := range processes {
		p.start()
		defer func() { p.signal(syscall.SIGKILL, true) }()
	}
	for _, p := range processes {
		p.awaitAPI()
	}
	require.Eventually(t, func() bool { return w.leader() != "" }, patience, 20*time.Millisecond)

	ledger := checker.NewLedger()
	load, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for i := range 6 {
		writers.Go(func() { keepWriting(load, processes, i, ledger) })
	}
	killed, leaders := inject(t, w, processes, random, mails)
	stop()
	writers.Wait()

	began := time.Now()
	var behind []string
	for missing := int64(1); missing > 0; time.Sleep(50 * time.Millisecond) {
		missing = w.count("SELECT 2 * (SELECT count(*) FROM outbox) - (SELECT count(*) FROM inbox WHERE applied_at IS NOT NULL)")
		if missing > 0 && time.Since(began) > catchUp {
			behind = []string{fmt.Sprintf("%d effects are missing", missing)}
			break
		}
	}
	recovery := checker.Recovery{Took: time.Since(began), Bound: catchUp, Behind: behind}
	for _, p := range processes {
		p.stop()
	}
	judge(t, w, ledger, mails, recovery)
	t.Logf("killed %d times, of which %d times the leader; %d invoices acknowledged; %s", killed, leaders, ledger.Aggregates(), mails.figures())
	require.Positive(t, leaders, "no leader was killed")
	require.Positive(t, mails.repeats, "no call was repeated: the test shows nothing about repeats")
}

// leader returns the name of the process whose relay leads; empty: nobody.
func (w *world) leader() (name string) {
	w.t.Helper()
	require.NoError(w.t, w.db.QueryRowContext(context.Background(),
		"SELECT coalesce(max(holder), '') FROM leases WHERE name = $1 AND expires_at > clock_timestamp()", stream).Scan(&name))
	return name
}

// inject injects faults for the duration. It returns how many processes were killed, and how many of them led.
func inject(t *testing.T, w *world, processes []*process, random *rand.Rand, mails *mailbox) (killed, leaders int) {
	for end, round := time.Now().Add(*duration), 0; time.Now().Before(end) || leaders == 0; round++ {
		time.Sleep(time.Duration(300+random.IntN(700)) * time.Millisecond)
		victim, leading := processes[random.IntN(len(processes))], w.leader()
		if at := slices.IndexFunc(processes, func(p *process) bool { return p.name == leading }); at >= 0 && random.IntN(2) == 0 {
			victim = processes[at]
		}
		is := ""
		if victim.name == leading {
			is = ", the leader"
		}
		switch kind := random.IntN(10); {
		case kind < 5 || round < 2:
			t.Logf("kill -9 %s%s", victim.name, is)
			victim.signal(syscall.SIGKILL, true)
			killed++
			if is != "" {
				leaders++
			}
			time.Sleep(time.Duration(random.IntN(800)) * time.Millisecond)
			victim.start()
		case kind < 8:
			pause := time.Duration(500+random.IntN(4000)) * time.Millisecond // the lease is 2 s, an idle transaction may take 5 s
			t.Logf("freeze %s%s for %s", victim.name, is, pause)
			victim.signal(syscall.SIGSTOP, false)
			time.Sleep(pause)
			victim.signal(syscall.SIGCONT, false)
		case kind < 9:
			t.Logf("stop and start %s%s", victim.name, is)
			victim.stop()
			victim.start()
		default:
			t.Log("an outage of the mailer's endpoint")
			mails.down(true)
			time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
			mails.down(false)
		}
	}
	return killed, leaders
}

// keepWriting issues invoices and ends most of them, at whichever process answers, until ctx ends. The ledger gets what was acknowledged.
func keepWriting(ctx context.Context, processes []*process, number int, ledger *checker.Ledger) {
	client := &http.Client{Timeout: 3 * time.Second}
	for n := 0; ctx.Err() == nil; n++ {
		customer := fmt.Sprintf("customer-%d", (n*7+number)%40)
		invoice, ok := attempt(ctx, client, processes[(n+number)%3].url+"/invoices", fmt.Sprintf(`{"customer":%q,"cents":%d}`, customer, n%900+1), ledger)
		if !ok {
			time.Sleep(20 * time.Millisecond) // the process may be down
			continue
		}
		if verb := []string{"/pay", "/void", ""}[n%3]; verb != "" {
			attempt(ctx, client, processes[(n+number+1)%3].url+"/invoices/"+invoice.ID+verb, "", ledger)
		}
	}
}

// attempt sends a request that may fail. What an answer acknowledges goes to the ledger.
func attempt(ctx context.Context, client *http.Client, url, body string, ledger *checker.Ledger) (invoice Invoice, ok bool) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return invoice, false
	}
	answer, err := client.Do(request)
	if err != nil {
		return invoice, false
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode >= 300 || json.NewDecoder(answer.Body).Decode(&invoice) != nil {
		return invoice, false
	}
	ledger.Acknowledged("invoice/"+invoice.ID, invoice.Version)
	return invoice, true
}

// mailbox is the endpoint of the mailer. It recognizes a repeated call by its key, drops the answer of one call in fifty after it has done its work,
// and answers 503 while it is down.
type mailbox struct {
	mu      sync.Mutex
	calls   []checker.Call
	effects map[checker.ID]int // letters that were sent, by key
	repeats int
	refuses bool
	strange []string
}

func newMailbox() *mailbox { return &mailbox{effects: make(map[checker.ID]int)} }

func (m *mailbox) down(is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refuses = is
}

func (m *mailbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller is gone
	}
	version, versionErr := strconv.ParseInt(r.Header.Get("Invoice-Version"), 10, 64)
	id, idErr := checker.ParseID(r.Header.Get("Idempotency-Key"))
	call := checker.Call{
		Subscriber: "mailer", ID: id, Aggregate: "invoice/" + r.Header.Get("Invoice"), Version: version, Type: r.Header.Get("Event-Type"), Payload: body,
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(versionErr, idErr); err != nil {
		m.strange = append(m.strange, err.Error())
	}
	m.calls = append(m.calls, call)
	if m.refuses {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if m.effects[id] > 0 {
		m.repeats++
	} else {
		m.effects[id]++
	}
	if len(m.calls)%50 == 0 {
		if connection, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = connection.Close()
		}
		return
	}
	call.Succeeded = true
	m.calls = append(m.calls, call)
	w.WriteHeader(http.StatusNoContent)
}

func (m *mailbox) figures() string {
	return fmt.Sprintf("%d letters, %d repeated calls that were recognized", len(m.effects), m.repeats)
}

// all returns the calls, for the checker.
func (m *mailbox) all() iter.Seq2[checker.Call, error] {
	return func(yield func(checker.Call, error) bool) {
		for _, call := range m.calls {
			if !yield(call, nil) {
				return
			}
		}
	}
}
