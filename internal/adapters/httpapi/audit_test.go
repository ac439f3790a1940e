package httpapi_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// redriver redrives anything.
type redriver struct{ operations.ParkingAdmin }

func (redriver) Redrive(context.Context, *outbox.Key) (int, error) { return 1, nil }

// signIns is a console that reads each form and accepts it, in the session of ada.
type signIns struct{}

func (signIns) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusSeeOther)
}

func (signIns) Operator(*http.Request) operations.Operator {
	return operations.Operator{Name: "ada", Scope: operations.ScopeWrite}
}

func (signIns) Close() {}

// TestOperatorsAreAudited checks that the log has what was asked for by each request that may have changed something, and by whom. It has
// nothing about refused requests and reads, and never the token.
func TestOperatorsAreAudited(t *testing.T) {
	const token = "0123456789abcdef"
	logged := new(logged)
	base := run(t, httpapi.NewAdmin(httpapi.AdminOptions{
		Addr: "127.0.0.1:0", Token: token, Inspector: struct{ operations.RelayInspector }{}, ParkingAdmin: redriver{}, Console: signIns{}, Logger: slog.New(slog.NewTextHandler(logged, nil)),
	}).Server)
	send := func(method, path, token, body string) int {
		request, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultTransport.RoundTrip(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	require.Equal(t, http.StatusUnauthorized, send(http.MethodPost, "/outbox/redrive", "wrong", `{"all": true}`))
	require.Equal(t, http.StatusBadRequest, send(http.MethodPost, "/outbox/redrive", token, `{"al": true}`))
	require.Equal(t, http.StatusOK, send(http.MethodGet, "/healthz", token, ""))
	require.NotContains(t, logged.String(), "msg=audit")

	require.Equal(t, http.StatusOK, send(http.MethodPost, "/outbox/redrive", token, `{"all": true}`))
	logged.has(t, "msg=audit", `action="POST /outbox/redrive"`, `request="{\"all\": true}"`, `actor="holder of the admin token"`, "remote=127.0.0.1:")
	require.Equal(t, http.StatusSeeOther, send(http.MethodPost, "/console/actions/discard", "", "position=7"))
	logged.has(t, "msg=audit", `action="POST /console/actions/discard"`, `request="position=7"`, "actor_type=user actor=ada remote=127.0.0.1:")
	require.Equal(t, http.StatusSeeOther, send(http.MethodPost, "/console/sign-in", "", "token="+token))
	require.NotContains(t, logged.String(), "sign-in", "the console logs it")
	require.NotContains(t, logged.String(), token)
}
