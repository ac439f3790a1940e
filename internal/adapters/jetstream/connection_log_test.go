package jetstream

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUnreachableIsLoggedWithoutNil checks that the warning about a broker that cannot be reached has its reason, and no empty reason.
func TestUnreachableIsLoggedWithoutNil(t *testing.T) {
	for reason, want := range map[error]string{
		nil:                   `msg="NATS cannot be reached yet; trying again until it can" url=nats://broker:4222` + "\n",
		errors.New("refused"): `msg="NATS cannot be reached yet; trying again until it can" url=nats://broker:4222 error=refused` + "\n",
	} {
		var logged strings.Builder
		warnUnreachable(Options{URL: "nats://broker:4222", Logger: slog.New(slog.NewTextHandler(&logged, nil))}, reason)
		require.True(t, strings.HasSuffix(logged.String(), want), logged.String())
	}
}
