package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/engine"
)

// A relay that cannot start, or that has ended, is started again after firstRestart. The wait doubles up to lastRestart.
const (
	firstRestart = 250 * time.Millisecond
	lastRestart  = 5 * time.Second
)

// supervisedRelay is one of the relays of a process. It has a graph of its own, with its own connections. What happens to the graph reaches no
// other relay: the graph is started again until the process stops.
type supervisedRelay struct {
	name   string
	config config.Config
	logger *slog.Logger
	meters metric.MeterProvider
	traces trace.TracerProvider

	running atomic.Pointer[runningRelay] // nil: it is starting
	trouble atomic.Pointer[string]       // why it is not running; nil: not known yet
}

// runningRelay has the parts of a relay's graph that the process shows.
type runningRelay struct {
	relay  *relaying.Relay
	log    *postgres.Log
	checks []httpapi.Check
}

// Run starts the relay again and again until ctx ends.
func (s *supervisedRelay) Run(ctx context.Context) error {
	for wait := firstRestart; ; wait = min(2*wait, lastRestart) {
		began := time.Now()
		err := background{}.recoverPanic(ctx, s.once)
		s.running.Store(nil)
		if ctx.Err() != nil {
			return err
		}
		if time.Since(began) > time.Minute { // not another failure to start
			wait = firstRestart
		}
		if err != nil { // else fx has seen the signal before ctx ends
			s.report(ctx, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// once prepares the database, and runs the relay until ctx ends or a part of the relay fails. If ctx ends, the error is one of the stop.
func (s *supervisedRelay) once(ctx context.Context) error {
	if err := engine.PrepareRelay(ctx, s.config, s.logger); err != nil {
		return stopped(ctx, err)
	}
	return runApp(ctx, fx.New(relayGraph(s)))
}

// report keeps the reason why the relay is not running, and logs it unless it is the same as before.
func (s *supervisedRelay) report(ctx context.Context, err error) {
	text := err.Error()
	if before := s.trouble.Swap(&text); before == nil || *before != text {
		s.logger.WarnContext(ctx, "the relay cannot run, trying again", "error", err)
	}
}

// started takes the parts of a graph that starts.
func (s *supervisedRelay) started(r *relaying.Relay, log *postgres.Log, checks []httpapi.Check) {
	s.trouble.Store(nil)
	s.running.Store(&runningRelay{relay: r, log: log, checks: checks})
}

// errStarting returns why the relay is not running.
func (s *supervisedRelay) errStarting() error {
	if trouble := s.trouble.Load(); trouble != nil {
		return fmt.Errorf("the relay cannot start yet: %s", *trouble)
	}
	return errors.New("the relay is starting")
}

// shown returns what the admin listener shows.
func (s *supervisedRelay) shown() httpapi.RelayState {
	if running := s.running.Load(); running != nil {
		return engine.ShownRelay(s.name, s.config.Stream.Name, running.relay)
	}
	return httpapi.RelayState{Name: s.name, Stream: s.config.Stream.Name, State: httpapi.RelayStateStateStarting, Trouble: s.trouble.Load()}
}

// measured returns what is measured: a relay that is starting does not lead.
func (s *supervisedRelay) measured() telemetry.RelayState {
	if running := s.running.Load(); running != nil {
		return engine.MeasuredState(running.relay, running.log)
	}
	return telemetry.RelayState{}
}

// checks returns the checks of readiness. If one fails, the process is degraded, and stays ready: it also runs the relays of other databases.
func (s *supervisedRelay) checks() []httpapi.Check {
	var checks []httpapi.Check
	for _, name := range []string{"relay", "database", "broker", "stream"} {
		checks = append(checks, httpapi.Check{Name: s.name + ": " + name, Probe: func(ctx context.Context) error {
			running := s.running.Load()
			if running == nil {
				return s.errStarting()
			}
			for _, check := range running.checks {
				if check.Name == name {
					return check.Probe(ctx)
				}
			}
			return fmt.Errorf("the relay has no check %q", name)
		}})
	}
	return checks
}
