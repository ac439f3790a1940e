package processes

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// WaitTimeout bounds Await. It is far longer than any wait needs.
const WaitTimeout = 30 * time.Second

// Await calls yes again and again until yes returns true or an error, at most for WaitTimeout.
func Await(ctx context.Context, every time.Duration, yes func() (bool, error)) error {
	for began := time.Now(); ; {
		done, err := yes()
		switch {
		case done || err != nil:
			return err
		case time.Since(began) > WaitTimeout:
			return fmt.Errorf("not within %s", WaitTimeout)
		case !Pause(ctx, every):
			return ctx.Err()
		}
	}
}

// Pause waits. It reports false if ctx ended.
func Pause(ctx context.Context, duration time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(duration):
		return true
	}
}

// probeTimeout bounds one request to a probe.
const probeTimeout = 5 * time.Second

// IsReady asks the admin listener at an address. It reports whether the process is ready and all its checks succeed.
func IsReady(ctx context.Context, admin string) bool {
	return answers(ctx, admin, `"status":"ready"`)
}

// IsServing asks the admin listener at an address. It reports whether the process serves requests. Some of its checks may fail.
func IsServing(ctx context.Context, admin string) bool { return answers(ctx, admin, "") }

func answers(ctx context.Context, admin, with string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
	if err != nil {
		return false
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return err == nil && answer.StatusCode == http.StatusOK && strings.Contains(string(text), with)
}
