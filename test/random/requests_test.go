// Package random_test sends random requests to the program: many that its contract allows, and many that it does not.
package random_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assylzhan-a/outboxie/test/contract"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// requests is how many random requests a test sends, unless -rapid.checks says otherwise; `make requests` makes 10,000.
const requests = "3000"

func TestMain(m *testing.M) {
	for name, value := range map[string]string{"rapid.checks": requests, "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil { // flags on the command line are read later and replace these values
			panic(err)
		}
	}
	infra.MainInMemory(m)
}

// subscribers are those that run beside the instance.
var subscribers = []string{"emails", "shop", "parcels"}

// program is a running instance, and what the test has learned about it.
type program struct {
	api, admin string
	orders     []string               // that were placed
	answers    map[string]map[int]int // counted by operation and status
}

func start(t *testing.T) *program {
	t.Helper()
	servers := []string{"DATABASE_URL=" + infra.Database(t), "NATS_URL=" + infra.NATS(t).URL}
	instance := infra.Launch(t, append([]string{
		"INSTANCE_ID=random", "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0",
	}, servers...), "serve")
	p := &program{api: "http://" + instance.API(), answers: make(map[string]map[int]int)}
	p.admin = "http://" + instance.WaitFor(`server="admin listener" addr=`)
	instance.WaitFor("created the stream")
	for _, subscriber := range subscribers { // a request may forget a subscriber
		infra.Launch(t, servers, "subscribe", "--id", subscriber).WaitFor("subscribed")
	}
	return p
}

// direct follows no redirect: an empty id leads to the path before it.
var direct = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// TestRandomRequests checks that no random request causes an internal error, that the contract describes every answer, and that the program
// refuses each request that breaks the contract. Each operation must have succeeded and been refused at least once.
func TestRandomRequests(t *testing.T) {
	p := start(t)
	operations, err := contract.Operations()
	require.NoError(t, err)
	var busy []contract.Operation // the operations that clients use most
	for _, operation := range operations {
		if strings.HasPrefix(operation.Path, "/orders") {
			busy = append(busy, operation)
		}
	}
	p.ask(t, rapid.OneOf(rapid.SampledFrom(operations), rapid.SampledFrom(busy), rapid.SampledFrom(busy)))
	rare := slices.DeleteFunc(slices.Clone(operations), func(o contract.Operation) bool { return p.tried(o) == "" })
	if len(rare) > 0 { // chance has left something out
		p.ask(t, rapid.SampledFrom(rare))
	}
	for _, operation := range operations {
		t.Logf("%-18s %v", operation.ID, p.answers[operation.ID])
		require.Empty(t, p.tried(operation), operation.ID)
	}
}

// ask makes random requests for operations, and checks each answer.
func (p *program) ask(t *testing.T, operations *rapid.Generator[contract.Operation]) {
	t.Helper()
	rapid.Check(t, func(t *rapid.T) {
		operation := operations.Draw(t, "operation")
		asked := p.draw(t, operation)
		refused := contract.CheckRequest(asked.request(t))
		response, err := direct.Do(asked.request(t))
		require.NoError(t, err, asked)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())

		said := fmt.Sprintf("%s: %d %s", asked, response.StatusCode, body)
		require.Less(t, response.StatusCode, http.StatusInternalServerError, said)
		require.NoError(t, contract.CheckAnswer(asked.request(t), response.StatusCode, response.Header, string(body)), said)
		if accepted(response.StatusCode) {
			require.NoError(t, refused, said)
		}
		p.learn(operation.ID, response.StatusCode, body)
	})
}

// accepted reports whether a request with this answer was not refused. A path with a slash too many is: the client is sent elsewhere.
func accepted(status int) bool {
	return status < http.StatusBadRequest && status != http.StatusPermanentRedirect
}

// tried returns what an operation still lacks: a success, or a refusal if the operation can be refused. If nothing is missing, tried returns an
// empty text.
func (p *program) tried(operation contract.Operation) string {
	tried, succeeded := 0, 0
	for status, count := range p.answers[operation.ID] {
		tried += count
		if accepted(status) {
			succeeded += count
		}
	}
	switch {
	case succeeded == 0:
		return "it never succeeded"
	case succeeded == tried && !operation.TakesNoInput:
		return "it was never refused"
	}
	return ""
}

func (p *program) learn(operation string, status int, body []byte) {
	if p.answers[operation] == nil {
		p.answers[operation] = make(map[int]int)
	}
	p.answers[operation][status]++
	var order struct {
		ID string `json:"id"`
	}
	if status == http.StatusCreated && json.Unmarshal(body, &order) == nil {
		p.orders = append(p.orders, order.ID)
	}
}

// asking is a request before it is made.
type asking struct {
	method, url, body string
	headers           [][2]string
}

func (a asking) String() string {
	return fmt.Sprintf("%s %s %v %q", a.method, a.url, a.headers, a.body)
}

func (a asking) request(t *rapid.T) *http.Request {
	request, err := http.NewRequestWithContext(context.Background(), a.method, a.url, strings.NewReader(a.body))
	require.NoError(t, err, a.url)
	request.Header.Set("Authorization", "Bearer "+infra.AdminToken)
	for _, header := range a.headers {
		request.Header.Add(header[0], header[1])
	}
	return request
}
