package subscribing

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// The names of the troubles that keep a copy from its work. laneTrouble returns the name of the trouble of a lane.
const (
	troubleBegin   = "begin"
	troublePaused  = "paused"
	troubleLook    = "look"
	troubleRead    = "read"
	troubleLetters = "letters"
)

// troubles are the present reasons why a copy does not work. Each trouble is logged once when it begins and once when it ends. While it
// lasts, each repetition is logged only at the debug level. troubles is safe for concurrent use.
type troubles struct {
	mu      sync.Mutex
	present map[string]string // the text that was logged, by name of the trouble
}

// begin records a trouble and logs it. If a trouble that a person has to end gets another text, begin logs it again.
func (t *troubles) begin(ctx context.Context, logger *slog.Logger, trouble string, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	text := what + ": " + err.Error()
	t.mu.Lock()
	before := t.present[trouble]
	if t.present == nil {
		t.present = make(map[string]string)
	}
	t.present[trouble] = text
	t.mu.Unlock()
	level := slog.LevelDebug
	switch {
	case (errors.Is(err, inbox.ErrStreamUnreadable) || errors.Is(err, errLoss)) && before != text:
		level = slog.LevelError
	case before != "":
	case errors.Is(err, inbox.ErrNoStream), errors.Is(err, errLegacyCopies), errors.Is(err, errPaused):
		level = slog.LevelInfo
	default:
		level = slog.LevelWarn
	}
	logger.Log(ctx, level, what, "error", err)
}

// end records that a trouble is over.
func (t *troubles) end(ctx context.Context, logger *slog.Logger, trouble string) {
	t.mu.Lock()
	before := t.present[trouble]
	delete(t.present, trouble)
	t.mu.Unlock()
	if before != "" {
		logger.InfoContext(ctx, "a trouble has ended", "trouble", before)
	}
}

// forget drops a trouble without logging anything.
func (t *troubles) forget(trouble string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.present, trouble)
}

// text returns all present troubles; empty: none.
func (t *troubles) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Values(t.present)), "; ")
}
