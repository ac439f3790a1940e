package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"go.uber.org/fx"
)

// background runs the loops of a graph. A loop runs from the start to the stop of the graph. If a loop ends earlier, the
// program ends with a non-zero exit code. The function that run returns asks a loop to end before the graph stops.
type background struct {
	fx.In
	Lifecycle fx.Lifecycle
	App       fx.Shutdowner
	Logger    *slog.Logger
}

var errEnded = errors.New("the loop returned without an error")

func (b background) run(name string, loop func(context.Context) error) (stop context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background()) // the context of OnStart ends with the start
	ended := make(chan struct{})
	b.Lifecycle.Append(fx.Hook{
		OnStart: func(context.Context) error {
			go func() {
				defer close(ended)
				err := b.recoverPanic(ctx, loop)
				switch {
				case ctx.Err() == nil:
					b.Logger.Error("a background loop died, shutting down", "loop", name, "error", cmp.Or(err, errEnded))
					_ = b.App.Shutdown(fx.ExitCode(exitFailed)) // fails only if the app is shutting down already
				case err != nil:
					b.Logger.Error("a background loop failed while it was stopped", "loop", name, "error", err)
				}
			}()
			return nil
		},
		OnStop: func(stopping context.Context) error {
			cancel()
			select {
			case <-ended:
				return nil
			case <-stopping.Done():
				return fmt.Errorf("%s did not stop in time", name)
			}
		},
	})
	return cancel
}

// recoverPanic turns a panic of the loop into an error.
func (b background) recoverPanic(ctx context.Context, loop func(context.Context) error) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("panic: %v\n%s", reason, debug.Stack())
		}
	}()
	return loop(ctx)
}

// runApp starts the graph. It stops the graph when ctx ends, or when a part of the graph asks for a shutdown. If ctx ends during the start,
// runApp finishes the start first, because fx would return at once and leave the started parts running. No start hook takes long.
func runApp(ctx context.Context, app *fx.App) error {
	starting, cancel := context.WithTimeout(context.WithoutCancel(ctx), app.StartTimeout())
	defer cancel()
	if err := app.Start(starting); err != nil {
		return err
	}
	code := exitClean
	select {
	case <-ctx.Done():
	case signal := <-app.Wait():
		code = signal.ExitCode
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), app.StopTimeout())
	defer cancel()
	if err := app.Stop(stopping); err != nil {
		return err
	}
	if code != exitClean {
		return errors.New("a part of the program failed; the log says which")
	}
	return nil
}
