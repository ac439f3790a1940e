package console

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"time"
)

// checkTime bounds the checks of the environment.
const checkTime = 2 * time.Second

// settingsPage is the data of the page with the settings.
type settingsPage struct {
	GoVersion string
	Settings  []Setting
	Checks    []Check
	Late      string // why there are no checks; empty: they are there
}

func (c *Console) serveSettings() {
	c.get("/settings", func(w http.ResponseWriter, r *http.Request) error {
		shown := settingsPage{GoVersion: runtime.Version(), Settings: c.Settings}
		shown.Checks, shown.Late = c.runChecks(r.Context())
		return c.show(w, r, "settings", http.StatusOK, shown)
	})
}

// runChecks returns the verdicts of the checks. If the checks do not end in time, it returns why there are none. A check that ignores the end
// of its context must not hold up the page.
func (c *Console) runChecks(ctx context.Context) (checks []Check, late string) {
	if c.Checks == nil {
		return nil, ""
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	done := make(chan []Check, 1)
	go func() { done <- c.Checks(ctx) }()
	select {
	case checks = <-done:
		return checks, ""
	case <-time.After(checkTime + checkTime/4): // checks that end with their context have a moment to say so
		return nil, fmt.Sprintf("the checks gave no answer within %s", checkTime)
	}
}
