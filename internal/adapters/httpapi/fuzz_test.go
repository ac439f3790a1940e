package httpapi_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

var (
	aUUID = regexp.MustCompile(`(?i)\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\z`)
	aKey  = regexp.MustCompile(`\A[!-~]{1,255}\z`)
)

// wish is the order that a body asks for.
type wish struct {
	customer string
	amount   *big.Rat
	currency string
}

// wishOf reads a body as the contract describes it, without code of the server. It returns nil if the body does not ask for an order.
func wishOf(body []byte) *wish {
	members := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if start, err := decoder.Token(); !json.Valid(body) || !isText(body) || err != nil || start != json.Delim('{') {
		return nil
	}
	for decoder.More() {
		name, err := decoder.Token()
		var value any
		if err != nil || decoder.Decode(&value) != nil {
			return nil
		}
		if _, twice := members[name.(string)]; twice {
			return nil
		}
		members[name.(string)] = value
	}
	if _, given := members["currency"]; !given {
		members["currency"] = "USD"
	}
	customer, _ := members["customer_id"].(string)
	currency, _ := members["currency"].(string)
	amount, _ := members["amount"].(string)
	if number, is := members["amount"].(json.Number); is {
		amount = number.String()
	}
	money, notMoney := value.ParseMoney(amount, value.Currency(currency))
	_, notCurrency := value.ParseCurrency(currency)
	if len(members) != 3 || !aUUID.MatchString(customer) || notCurrency != nil || notMoney != nil || money.Minor() > value.MaxAmount {
		return nil
	}
	worth, _ := new(big.Rat).SetString(amount)
	return &wish{customer: strings.ToLower(customer), amount: worth, currency: currency}
}

// isText reports whether package json reads a well-formed text unchanged. Package json replaces invalid characters with U+FFFD.
func isText(body []byte) bool {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	read, escapes := 0, strings.ToLower(strings.ReplaceAll(string(body), `\\`, "__"))
	for {
		token, err := decoder.Token()
		if err != nil {
			return read == strings.Count(string(body), "\ufffd")+strings.Count(escapes, `\ufffd`) && utf8.Valid(body)
		}
		text, _ := token.(string)
		read += strings.Count(text, "\ufffd")
	}
}

// addOrders adds seeds: bodies and keys of orders, most of them wrong.
func addOrders(f *testing.F) {
	f.Helper()
	const fine = `{"customer_id":"` + customer + `","amount":100.50,"currency":"EUR"}`
	for _, change := range [][2]string{
		{"", ""},
		{`,"currency":"EUR"`, ""},
		{`"EUR"`, "null"},
		{`"EUR"`, `"JPY"`},
		{`"EUR"`, `"eur"`},
		{`currency`, "Currency"},
		{"100.50", "1e2"},
		{"100.50", `"1e2"`},
		{"100.50", `"1\u00301.5"`},
		{"100.50", "-0"},
		{"100.50", "1e400"},
		{"100.50", "92233720368547758.08"},
		{"100.50", "[1]"},
		{"100.50", "1,\"amount\":1"},
		{"100.50", "1,\"\\u0061mount\":1"},
		{"100.50", "1,\"\xff\":1,\"\xfe\":2"},
		{"550e", "550E"},
		{"550e", "\u212a50e"},
		{"550e", `\ud800`},
		{"550e", "\xff"},
		{"EUR", `\ud83d\ude00`},
		{"EUR", `\udc00`},
		{"currency", `\ufffd`},
		{"currency", "\ufffd"},
		{"100.50", "1e10"},
		{"100.50", "10000000000.01"},
		{"{", " [{"},
		{"}", "}}"},
		{"}", "\u00a0}"},
		{"{", strings.Repeat(`{"a":`, 200)},
	} {
		f.Add([]byte(strings.Replace(fine, change[0], change[1], 1)), "")
	}
	for _, body := range []string{"", " \n", "null", "1", `"x"`, "{}", "\u00a0", "{" + strings.Repeat(`"é":1,`, 30) + `"":1}`} {
		f.Add([]byte(body), "key")
	}
	for _, key := range []string{"key", "a b", "\u00e9", "\x00", strings.Repeat("k", 256), `"<&>"`} {
		f.Add([]byte(fine), key)
	}
}

// FuzzPlaceOrder checks the answer to any body that is posted as an order. If the answer is 201, the order and the key are the requested
// ones. Otherwise the answer is 400 with a problem, and no order was placed. Both answers follow the contract.
func FuzzPlaceOrder(f *testing.F) {
	addOrders(f)
	store := &shop{}
	api := httpapi.NewAPI(httpapi.Options{
		Service: store, Logger: slog.New(slog.DiscardHandler), TracerProvider: sdktrace.NewTracerProvider(), Propagator: propagation.TraceContext{},
	})
	f.Fuzz(func(t *testing.T, body []byte, key string) {
		store.orders, store.keys = map[order.ID]*order.Order{}, nil
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/orders", bytes.NewReader(body))
		request.Header.Set("Content-Type", "application/json")
		if key != "" {
			request.Header.Set("Idempotency-Key", key)
		}
		recorded := httptest.NewRecorder()
		api.Handler().ServeHTTP(recorded, request)
		got := orderResponse{recorded.Code, recorded.Header(), recorded.Body.String()}
		requireConforming(t, request, got)

		wanted := wishOf(body)
		if wanted == nil || (key != "" && !aKey.MatchString(key)) {
			requireRefused(t, got)
			require.Empty(t, store.orders)
			return
		}
		require.Equal(t, http.StatusCreated, got.status, got.body)
		require.Equal(t, "application/json", got.header.Get("Content-Type"))
		require.Equal(t, "/orders/"+firstID, got.header.Get("Location"))
		require.Equal(t, []orders.Key{orders.Key(key)}, store.keys)
		var shown httpapi.Order
		require.NoError(t, json.Unmarshal([]byte(got.body), &shown))
		amount, ok := new(big.Rat).SetString(shown.Amount)
		require.True(t, ok, shown.Amount)
		require.Zero(t, amount.Cmp(wanted.amount), "%s was asked for", wanted.amount)
		require.Equal(t, []string{firstID, wanted.customer, wanted.currency, "created"},
			[]string{shown.ID, shown.CustomerID, shown.Currency, string(shown.Status)})
		require.Len(t, store.orders, 1)
		placed := store.orders[order.ID(shown.ID)].Snapshot()
		require.Equal(t, shown.Amount+" "+shown.Currency, placed.Amount.String())
		require.Equal(t, shown.CustomerID, string(placed.CustomerID))
	})
}

// requireRefused checks that the answer is a problem with status 400.
func requireRefused(t *testing.T, got orderResponse) {
	t.Helper()
	require.Equal(t, http.StatusBadRequest, got.status, got.body)
	require.Equal(t, "application/problem+json", got.header.Get("Content-Type"))
	var problem httpapi.Problem
	require.NoError(t, json.Unmarshal([]byte(got.body), &problem))
	require.Equal(t, http.StatusBadRequest, problem.Status)
	require.NotEmpty(t, problem.Code)
	require.NotEmpty(t, problem.Detail)
	require.NotNil(t, problem.TraceID)
	require.Equal(t, got.header.Get("Trace-Id"), *problem.TraceID)
}
