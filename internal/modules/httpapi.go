package modules

import (
	"context"
	"log/slog"

	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
)

// HTTPAPI provides *httpapi.API from Options and *httpapi.Admin from AdminOptions. A requested server listens when the application starts, and serves until it
// stops. If serving fails, the application ends with exit code 1.
var HTTPAPI = fx.Module("httpapi", fx.Provide(
	func(options httpapi.Options, life fx.Lifecycle, app fx.Shutdowner) *httpapi.API {
		api := httpapi.NewAPI(options)
		serve(api.Server, options.Logger, life, app)
		return api
	},
	func(options httpapi.AdminOptions, life fx.Lifecycle, app fx.Shutdowner) *httpapi.Admin {
		admin := httpapi.NewAdmin(options)
		serve(admin.Server, options.Logger, life, app)
		return admin
	},
))

func serve(server *httpapi.Server, logger *slog.Logger, life fx.Lifecycle, app fx.Shutdowner) {
	served := make(chan struct{})
	life.Append(fx.Hook{
		OnStart: func(ctx context.Context) error {
			if err := server.Listen(ctx); err != nil {
				return err
			}
			logger.Info("listening", server.Where()...)
			go func() {
				defer close(served)
				if err := server.Serve(); err != nil {
					logger.Error("shutting down", "error", err)
					_ = app.Shutdown(fx.ExitCode(1)) // fails only if the app is shutting down already
				}
			}()
			return nil
		},
		OnStop: func(ctx context.Context) error {
			err := server.Shutdown(ctx)
			<-served
			return err
		},
	})
}
