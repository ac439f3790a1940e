package httpapi

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
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

// TestManyClientsTakeBoundedMemory checks that rateLimits forgets clients when very many come, and not those that send requests all the time.
func TestManyClientsTakeBoundedMemory(t *testing.T) {
	limits := newRateLimits(1)
	now := time.Now()
	require.Zero(t, limits.take("busy", now))
	for i := range 5 * maxClients {
		limits.take(strconv.Itoa(i), now)
		if i%1000 == 0 {
			require.NotZero(t, limits.take("busy", now), "it is still limited")
		}
	}
	require.LessOrEqual(t, len(limits.young)+len(limits.old), 2*maxClients)
	require.Zero(t, limits.take("busy", now.Add(time.Second)))
}

// TestAddressOfAClient checks that a client with IPv6 is its network, and any other client its address.
func TestAddressOfAClient(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:1234":              "192.0.2.7",
		"[::ffff:192.0.2.7]:1234":     "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:1234": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1234":         "fe80::/64",
		"":                            "",
	} {
		require.Equal(t, want, addressOf(&http.Request{RemoteAddr: remote}), remote)
	}
}
