package httpapi

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"
)

// TestReadinessDoesNotWaitForHangingChecks checks that several hanging checks together delay readiness by two seconds, and that the other
// checks still give their results.
func TestReadinessDoesNotWaitForHangingChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		deaf := func(context.Context) error { <-release; return nil }
		obedient := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		fine := func(context.Context) error { time.Sleep(time.Second); return nil }
		start := time.Now()
		report := readiness(t.Context(), []Check{
			{"deaf", false, deaf}, {"obedient", true, obedient}, {"fine", true, fine}, {"deaf too", true, deaf},
		})
		require.Equal(t, 2*time.Second, time.Since(start))
		require.Equal(t, ReadinessStatusUnavailable, report.Status)
		require.Equal(t, "no answer within 2s", *report.Checks[0].Reason)
		require.NotNil(t, report.Checks[1].Reason)
		require.Equal(t, CheckResult{Name: "fine", Status: CheckResultStatusOk}, report.Checks[2])
	})
}

// TestAPanicCutsOffAnAnswerThatHasBegun checks that an answer does not look complete if the handler panics after the answer began.
func TestAPanicCutsOffAnAnswerThatHasBegun(t *testing.T) {
	engine := newEngine(slog.New(slog.DiscardHandler))
	engine.GET("/", func(c *gin.Context) {
		c.String(http.StatusOK, "half of ")
		c.Writer.Flush()
		panic("boom")
	})
	server := httptest.NewServer(engine)
	defer server.Close()
	response, err := server.Client().Get(server.URL)
	require.NoError(t, err)
	defer response.Body.Close()
	_, err = io.ReadAll(response.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}
