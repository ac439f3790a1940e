package httpapi

import (
	"context"
	"log/slog"

	"go.uber.org/fx"
)

// Module provides *API from Options and *Admin from AdminOptions. A requested server listens when the application starts, and serves until it
// stops. If serving fails, the application ends with exit code 1.
var Module = fx.Module("httpapi", fx.Provide(
	func(options Options, life fx.Lifecycle, app fx.Shutdowner) *API {
		api := NewAPI(options)
		run(api.Server, options.Logger, life, app)
		return api
	},
	func(options AdminOptions, life fx.Lifecycle, app fx.Shutdowner) *Admin {
		admin := NewAdmin(options)
		run(admin.Server, options.Logger, life, app)
		return admin
	},
))

func run(server *Server, logger *slog.Logger, life fx.Lifecycle, app fx.Shutdowner) {
	served := make(chan struct{})
	life.Append(fx.Hook{
		OnStart: func(ctx context.Context) error {
			if err := server.Listen(ctx); err != nil {
				return err
			}
			attributes := []any{"server", server.name, "addr", server.Addr()}
			if server.console {
				attributes = append(attributes, "console", "http://"+server.Addr()+ConsolePath)
			}
			logger.Info("listening", attributes...)
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
