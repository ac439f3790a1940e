package httpapi_test

import (
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/modules"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

func graph(t *testing.T, admin string, more ...fx.Option) *fxtest.App {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	return fxtest.New(t, append(more, modules.HTTPAPI, fx.Supply(
		httpapi.Options{Addr: "127.0.0.1:0", Service: &shop{}, Logger: log},
		httpapi.AdminOptions{Addr: admin, Logger: log},
	))...)
}

func TestTheModuleStartsAndStopsBothServers(t *testing.T) {
	var api *httpapi.API
	var admin *httpapi.Admin
	app := graph(t, "127.0.0.1:0", fx.Populate(&api, &admin))
	app.RequireStart()
	require.Equal(t, http.StatusOK, get(t, "GET", "http://"+admin.Addr()+"/healthz").status)
	require.Equal(t, http.StatusNotFound, get(t, "GET", "http://"+api.Addr()+"/nothing").status)
	app.RequireStop()
	http.DefaultClient.CloseIdleConnections()
}

// pages is a console without pages.
type pages struct{ http.Handler }

func (pages) Operator(*http.Request) operations.Operator { return operations.Operator{} }

func (pages) Close() {}

// TestTheLogSaysWhereTheConsoleIs checks that the log of a process with a console has the console's address.
func TestTheLogSaysWhereTheConsoleIs(t *testing.T) {
	said := new(logged)
	var admin *httpapi.Admin
	app := fxtest.New(t, modules.HTTPAPI, fx.Populate(&admin), fx.Supply(httpapi.AdminOptions{
		Addr: "127.0.0.1:0", Console: pages{http.NotFoundHandler()}, Logger: slog.New(slog.NewTextHandler(said, nil)),
	}))
	app.RequireStart()
	defer app.RequireStop()
	require.Contains(t, said.String(), "console=http://"+admin.Addr()+"/console\n")
}

func TestTheModuleDoesNotStartOnATakenPort(t *testing.T) {
	taken := start(t)
	app := graph(t, taken.api.Addr(), fx.Invoke(func(*httpapi.API, *httpapi.Admin) {}))
	require.ErrorContains(t, app.Start(t.Context()), "the admin listener cannot listen on "+taken.api.Addr())
}

func TestTheModuleEndsTheApplicationWhenServingFails(t *testing.T) {
	var admin *httpapi.Admin
	app := graph(t, "127.0.0.1:0", fx.Populate(&admin))
	app.RequireStart()
	require.NoError(t, admin.CloseListener())
	select {
	case signal := <-app.Wait():
		require.Equal(t, 1, signal.ExitCode)
	case <-time.After(5 * time.Second):
		t.Fatal("still running")
	}
	app.RequireStop()
}
