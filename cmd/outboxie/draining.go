package main

import (
	"context"
	"log/slog"
	"time"

	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/config"
)

// draining is the first part of the stop of an instance.
type draining struct {
	http   httpapi.Drain
	resign context.CancelFunc // asks the relay to resign; nil: there is no relay
}

// runDraining adds the stop hook that runs before all others, so runDraining must be invoked last. The hook asks the relay to resign, so that
// another instance leads at once, and drains the API for HTTP_DRAIN. The listeners close after that.
func runDraining(life fx.Lifecycle, d *draining, c config.Config, logger *slog.Logger) {
	life.Append(fx.StopHook(func(ctx context.Context) {
		d.http.Begin()
		if d.resign != nil {
			d.resign()
		}
		if !c.Roles.API || c.HTTP.Drain == 0 {
			return
		}
		logger.Info("draining: the API answers until load balancers send their requests elsewhere", "for", c.HTTP.Drain)
		select {
		case <-time.After(c.HTTP.Drain):
		case <-ctx.Done():
		}
	}))
}
