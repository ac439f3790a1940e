package console

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

const (
	// liveWrite bounds one write to a viewer. A viewer that reads nothing loses its connection.
	liveWrite = 10 * time.Second
	// maxViewers bounds the viewers whose pages refresh by themselves. The pages of further viewers work, but do not refresh.
	maxViewers = 32
	// readingAge is how old the Watcher's reading may be. A page waits up to readingWait for a newer one.
	readingAge  = 2 * time.Second
	readingWait = 2 * time.Second
)

// serveLive tells viewers, as server-sent events, when there is a newer reading. A page then asks for its live part again. Script closes the
// connection of a hidden tab, so such a tab costs nothing.
func (c *Console) serveLive() {
	viewers := make(chan struct{}, maxViewers)
	c.get("/live", func(w http.ResponseWriter, r *http.Request) error {
		select {
		case viewers <- struct{}{}:
			defer func() { <-viewers }()
		default:
			w.Header().Set("Retry-After", "10")
			http.Error(w, "there are too many viewers", http.StatusServiceUnavailable)
			return nil
		}
		defer c.Watcher.Watch()()
		out := http.NewResponseController(w)
		w.Header().Set("Content-Type", "text/event-stream")
		_ = out.SetReadDeadline(time.Time{}) // the end of the deadline would look like a viewer that has gone
		_, newer := c.Watcher.View()
		for number := 0; ; number++ {
			if err := out.SetWriteDeadline(time.Now().Add(liveWrite)); err != nil {
				return err
			}
			if _, err := fmt.Fprintf(w, "event: reading\ndata: %d\n\n", number); err != nil {
				return nil // the viewer has gone
			}
			if err := out.Flush(); err != nil {
				return nil //nolint:nilerr // the viewer has gone
			}
			select {
			case <-r.Context().Done():
				return nil
			case <-c.closed:
				return nil
			case <-newer:
			}
			if !c.signedIn(r) {
				return nil
			}
			_, newer = c.Watcher.View()
		}
	})
}

// recentView returns the newest reading. If nobody has watched lately, recentView waits a little for a newer one.
func (c *Console) recentView(ctx context.Context) operations.View {
	defer c.Watcher.Watch()()
	view, newer := c.Watcher.View()
	if newer == nil || time.Since(view.At) < readingAge {
		return view
	}
	timer := time.NewTimer(readingWait)
	defer timer.Stop()
	select {
	case <-newer:
	case <-timer.C:
	case <-ctx.Done():
	}
	view, _ = c.Watcher.View()
	return view
}
