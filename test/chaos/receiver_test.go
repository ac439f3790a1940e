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

// behavior is how the receiver treats calls.
type behavior int

const (
	accept     behavior = iota
	hang                // it never answers
	dropAnswer          // it does its work, and the connection breaks before the answer
)

// receiver is the HTTP server that the subscriber with external effects calls. It records each call when it arrives, and once more before it
// answers with success.
type receiver struct {
	server *httptest.Server
	report func(format string, v ...any)

	mu       sync.Mutex
	all      []checker.Call
	behavior behavior
	share    uint32 // one in so many aggregates meets the behavior
	hit      int    // calls that met a behavior other than accept, in all
	others   int    // calls that were accepted meanwhile
}

func newReceiver(t *testing.T, h *harness) *receiver {
	t.Helper()
	r := &receiver{report: h.report}
	r.server = httptest.NewServer(r)
	t.Cleanup(func() {
		r.server.CloseClientConnections()
		r.server.Close()
	})
	return r
}

// address returns the URL that a subscriber calls.
func (r *receiver) address(subscriber string) string { return r.server.URL + "/" + subscriber }

// ServeHTTP records a call and treats it by the present behavior.
func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return // the caller is gone
	}
	header := request.Header.Get
	id, err := checker.ParseID(header("Idempotency-Key"))
	version, failed := strconv.ParseInt(header("ce-aggregateversion"), 10, 64)
	if err != nil || failed != nil || header("ce-id") != header("Idempotency-Key") {
		r.report("a call with the headers %v", request.Header)
	}
	switch r.note(checker.Call{
		Subscriber: strings.TrimPrefix(request.URL.Path, "/"), ID: id, Version: version, Type: header("ce-type"), Payload: body,
		Aggregate: header("ce-aggregatetype") + "/" + header("ce-subject"),
	}) {
	case hang:
		<-request.Context().Done()
	case dropAnswer:
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
	case accept:
		w.WriteHeader(http.StatusNoContent)
	}
}

// note records a call, and returns how to treat it.
func (r *receiver) note(call checker.Call) behavior {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(call.Aggregate)) // never fails
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, call)
	if r.behavior != accept && hash.Sum32()%r.share == 0 {
		r.hit++
		return r.behavior
	}
	if r.behavior != accept {
		r.others++
	}
	call.Succeeded = true
	r.all = append(r.all, call)
	return accept
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

// figures describes how many calls arrived, for how many events, and how many failed.
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

// misbehave lets the receiver hang, or lose its answers, for all aggregates or for some of them. It reports a problem if calls for the others
// are held up.
func (r *receiver) misbehave(in *injector, f fault) func() {
	chosen, share := hang, uint32(1)
	if f.number%4 == 0 {
		chosen = dropAnswer
	}
	if f.number>>8%3 > 0 {
		share = 4
	}
	in.note("%s for %s; loses answers: %t; one in %d aggregates", f.kind, f.hold, chosen == dropAnswer, share)
	began := in.streamEnd()
	r.mu.Lock()
	hit, others := r.hit, r.others
	r.behavior, r.share = chosen, share
	r.mu.Unlock()
	return func() {
		await(waitTimeout/10, func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.hit > hit
		})
		r.mu.Lock()
		r.behavior = accept
		hit, others = r.hit-hit, r.others-others
		r.mu.Unlock()
		in.note("%d calls met that, and %d others meanwhile", hit, others)
		if hit > 0 {
			in.tookEffect(f.kind)
		}
		const many = 50 // messages
		if ended := in.streamEnd(); share > 1 && f.hold >= 2*time.Second && ended > began+many && began > 0 && others == 0 {
			in.report("%s: no other aggregate was called for in %s, while %d messages came", f.kind, f.hold, ended-began)
		}
	}
}
