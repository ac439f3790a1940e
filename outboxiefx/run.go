package outboxiefx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie"
)

// running has what run needs.
type running struct {
	fx.In

	Settings    settings
	Engine      *outboxie.Engine
	Subscribers []subscriber `group:"outboxie.subscribers"`
	Logger      *slog.Logger `optional:"true"`
	Lifecycle   fx.Lifecycle
	App         fx.Shutdowner
}

// run declares the parts, and makes the application run the engine. If it fails, the application never starts, so nothing else closes the
// engine.
func run(r running) error {
	err := declare(r)
	if err != nil {
		r.Engine.Close()
	}
	return err
}

func declare(r running) error {
	if r.Settings.relay {
		if err := r.Engine.Relay(); err != nil {
			return err
		}
	}
	for _, s := range r.Subscribers {
		if err := r.Engine.Subscriber(s.id, s.handler, s.options); err != nil {
			return err
		}
	}
	b := &background{engine: r.Engine, migrates: r.Settings.migrate, app: r.App, logger: cmp.Or(r.Logger, slog.Default())}
	r.Lifecycle.Append(fx.StartStopHook(b.start, b.stop))
	if r.Settings.admin == nil {
		return nil
	}
	handler, err := r.Engine.Admin(r.Settings.admin.options)
	if err != nil {
		return err
	}
	l := &listener{address: r.Settings.admin.address, server: &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}, background: b}
	r.Lifecycle.Append(fx.StartStopHook(l.start, l.server.Shutdown))
	return nil
}

// background runs the engine from the start of the application to its stop.
type background struct {
	engine   *outboxie.Engine
	migrates bool
	app      fx.Shutdowner
	logger   *slog.Logger

	end   context.CancelFunc
	ended chan error
}

// start returns at once. The engine outlives the context of the start.
func (b *background) start(ctx context.Context) {
	ctx, b.end = context.WithCancel(context.WithoutCancel(ctx))
	b.ended = make(chan error, 1)
	go func() {
		err := b.run(ctx)
		if err != nil {
			b.fail(ctx, err)
		}
		b.ended <- err
	}()
}

func (b *background) run(ctx context.Context) error {
	if b.migrates {
		if err := b.engine.Migrate(ctx); err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // the application stops
			}
			return fmt.Errorf("migrate the engine's tables: %w", err)
		}
	}
	return b.engine.Run(ctx)
}

// fail shuts the application down.
func (b *background) fail(ctx context.Context, err error) {
	b.logger.ErrorContext(ctx, "the outbox cannot go on, the application shuts down", "error", err)
	_ = b.app.Shutdown(fx.ExitCode(1)) // fails only if the application is shutting down already
}

// stop waits until the engine has ended, and returns the engine's error.
func (b *background) stop(ctx context.Context) error {
	b.end()
	select {
	case err := <-b.ended:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the engine still runs: %w", ctx.Err())
	}
}

// listener serves the admin handler.
type listener struct {
	address    string
	server     *http.Server
	background *background
}

func (l *listener) start(ctx context.Context) error {
	var config net.ListenConfig
	socket, err := config.Listen(ctx, "tcp", l.address)
	if err != nil {
		return fmt.Errorf("listen for operators: %w", err)
	}
	ctx = context.WithoutCancel(ctx)
	go func() {
		if err := l.server.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
			l.background.fail(ctx, fmt.Errorf("serve operators: %w", err))
		}
	}()
	return nil
}
