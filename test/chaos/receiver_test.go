package chaos_test

import (
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

// manner is how the receiver treats calls.
type manner int

const (
	takes manner = iota
	hangs        // it never answers
	loses        // it does its work, and the connection breaks before the answer
)

// receiver is the endpoint of the subscriber that calls: a real HTTP server. It notes each call when it arrives, and again when it is about
// to be answered with success.
type receiver struct {
	server   *httptest.Server
	complain func(format string, v ...any)

	mu     sync.Mutex
	all    []checker.Call
	manner manner
	share  uint32 // one in so many aggregates is treated so
	hit    int    // calls that were, in all
	others int    // calls that were taken meanwhile
}

func newReceiver(t *testing.T, w *world) *receiver {
	t.Helper()
	r := &receiver{complain: w.complain}
	r.server = httptest.NewServer(r)
	t.Cleanup(func() {
		r.server.CloseClientConnections()
		r.server.Close()
	})
	return r
}

// address returns where a subscriber is to call.
func (r *receiver) address(subscriber string) string { return r.server.URL + "/" + subscriber }

// ServeHTTP notes a call.
func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return // the caller is gone
	}
	header := request.Header.Get
	id, err := checker.ParseID(header("Idempotency-Key"))
	version, failed := strconv.ParseInt(header("ce-aggregateversion"), 10, 64)
	if err != nil || failed != nil || header("ce-id") != header("Idempotency-Key") {
		r.complain("a call with the headers %v", request.Header)
	}
	switch r.note(checker.Call{
		Subscriber: strings.TrimPrefix(request.URL.Path, "/"), ID: id, Version: version, Type: header("ce-type"), Payload: body,
		Aggregate: header("ce-aggregatetype") + "/" + header("ce-subject"),
	}) {
	case hangs:
		<-request.Context().Done()
	case loses:
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
	case takes:
		w.WriteHeader(http.StatusNoContent)
	}
}

// note notes a call, and returns how it is treated.
func (r *receiver) note(call checker.Call) manner {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(call.Aggregate)) // never fails
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, call)
	if r.manner != takes && hash.Sum32()%r.share == 0 {
		r.hit++
		return r.manner
	}
	if r.manner != takes {
		r.others++
	}
	call.Succeeded = true
	r.all = append(r.all, call)
	return takes
}

// noted returns all calls, in order.
func (r *receiver) noted() []checker.Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// calls returns all calls, for the checker.
func (r *receiver) calls() iter.Seq2[checker.Call, error] {
	return func(yield func(checker.Call, error) bool) {
		for _, call := range r.noted() {
			if !yield(call, nil) {
				return
			}
		}
	}
}

// figures returns how many calls there were, for how many events, and how many were treated badly.
func (r *receiver) figures() string {
	calls, events := 0, make(map[checker.ID]bool)
	for _, call := range r.noted() {
		if !call.Succeeded {
			calls++
			events[call.ID] = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%d calls for %d events arrived, of which %d hung or lost their answer", calls, len(events), r.hit)
}

// misbehave has the receiver hang, or lose its answers, for all aggregates or for some of them. Those of the others are not held up.
func (r *receiver) misbehave(n *nemesis, f fault) func() {
	chosen, share := hangs, uint32(1)
	if f.number%4 == 0 {
		chosen = loses
	}
	if f.number>>8%3 > 0 {
		share = 4
	}
	n.note("%s for %s; loses answers: %t; one in %d aggregates", f.kind, f.hold, chosen == loses, share)
	began := n.streamEnd()
	r.mu.Lock()
	hit, others := r.hit, r.others
	r.manner, r.share = chosen, share
	r.mu.Unlock()
	return func() {
		await(patience/10, func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.hit > hit
		})
		r.mu.Lock()
		r.manner = takes
		hit, others = r.hit-hit, r.others-others
		r.mu.Unlock()
		n.note("%d calls met that, and %d others meanwhile", hit, others)
		if hit > 0 {
			n.tookEffect(f.kind)
		}
		const many = 50 // messages
		if ended := n.streamEnd(); share > 1 && f.hold >= 2*time.Second && ended > began+many && began > 0 && others == 0 {
			n.complain("%s: no other aggregate was called for in %s, while %d messages came", f.kind, f.hold, ended-began)
		}
	}
}
