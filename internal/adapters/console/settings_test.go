package console_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
)

// TestSettings checks that the page shows versions, settings with their sources, and the verdict of each check, and escapes all of it.
func TestSettings(t *testing.T) {
	status, body := open(t, console.Options{
		Instance: "app-1", Version: "v9",
		Settings: []console.Setting{
			{Name: "DATABASE_URL", Value: "postgres://me:xxxxx@db/orders", Source: "environment"}, {Name: hostile, Value: hostile, Source: "flag"},
		},
		Checks: func(ctx context.Context) []console.Check {
			deadline, bounded := ctx.Deadline()
			require.True(t, bounded)
			require.LessOrEqual(t, time.Until(deadline), 2*time.Second)
			return []console.Check{{Name: "postgres", Required: true}, {Name: "nats", Err: errors.New("down: " + hostile)}}
		},
	}).get("/settings")
	require.Equal(t, http.StatusOK, status)
	for _, part := range []string{
		"v9", runtime.Version(), "app-1", "Other processes may have others", "DATABASE_URL", "postgres://me:xxxxx@db/orders", "environment",
		`<span class="badge good">ok</span>`, `<span class="badge bad">failed</span> down: &lt;script&gt;`, "this process is not ready",
	} {
		require.Contains(t, body, part)
	}
	require.NotContains(t, body, "<script>alert")
	require.NotContains(t, body, "\u202e")

	_, body = open(t, console.Options{}).get("/settings")
	require.Contains(t, body, "This process has no checks.")
}

// TestSettingsDoNotWaitForChecks checks that a check which never answers does not hold up the page.
func TestSettingsDoNotWaitForChecks(t *testing.T) {
	hangs := make(chan struct{})
	t.Cleanup(func() { close(hangs) })
	began := time.Now()
	status, body := open(t, console.Options{Checks: func(context.Context) []console.Check {
		<-hangs
		return nil
	}}).get("/settings")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "the checks gave no answer within 2s")
	require.Less(t, time.Since(began), 10*time.Second)
}
