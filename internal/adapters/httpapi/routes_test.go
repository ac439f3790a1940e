package httpapi_test

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/test/contract"
)

// TestRoutesAreThoseOfTheContract checks that each listener has a route for every operation of the contract, and no other route. The
// contract does not have /metrics, the page of the admin listener, and the path / of the API, so the test adds them. The contract and the router have different paths for the profiles, so the test leaves
// the profiles out.
func TestRoutesAreThoseOfTheContract(t *testing.T) {
	operations, err := contract.Operations()
	require.NoError(t, err)
	const profiles = "/debug/pprof/"
	want := map[string][]string{"API": {"GET /"}, "admin": {"GET /metrics", "GET /docs", "GET /docs/:file"}}
	for _, operation := range operations {
		if strings.HasPrefix(operation.Path, profiles) {
			continue
		}
		listener := "API"
		if operation.Admin {
			listener = "admin"
		}
		path := strings.NewReplacer("{", ":", "}", "").Replace(operation.Path)
		want[listener] = append(want[listener], operation.Method+" "+path)
	}
	api := httpapi.NewAPI(httpapi.Options{Addr: "127.0.0.1:0", Service: &shop{}, Logger: slog.New(slog.DiscardHandler)})
	admin := httpapi.NewAdmin(httpapi.AdminOptions{
		Addr: "127.0.0.1:0", Metrics: http.NotFoundHandler(), Inspector: &fakeOperations{}, ParkingAdmin: &fakeOperations{}, Parked: &fakeUndecided{}, DeadLetters: &fakeUndecided{},
		Subscribers: &registry{}, Logger: slog.New(slog.DiscardHandler),
	})
	for listener, server := range map[string]*httpapi.Server{"API": api.Server, "admin": admin.Server} {
		var served []string
		for _, route := range server.Routes() {
			if route.Method != http.MethodHead && !strings.HasPrefix(route.Path, profiles) { // every GET route answers HEAD too
				served = append(served, route.Method+" "+route.Path)
			}
		}
		slices.Sort(want[listener])
		slices.Sort(served)
		require.Equal(t, want[listener], served, listener)
	}
}
