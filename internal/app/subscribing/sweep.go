package subscribing

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

const (
	sweepEvery  = time.Minute
	sweepChunk  = 1000        // events at a time, so that no statement takes long
	passTimeout = time.Minute // for the lanes to pass the end of the stream
	passPoll    = time.Second
)

// sweep removes the records of events that can never come again, until ctx ends.
func (s *Subscriber) sweep(ctx context.Context) {
	said := ""
	for ; ctx.Err() == nil; sleep(ctx, sweepEvery) {
		total := 0
		for ctx.Err() == nil {
			forgotten, why, err := s.forget(ctx)
			total += forgotten
			if err != nil && ctx.Err() == nil {
				s.logger.WarnContext(ctx, "cannot sweep the inbox, trying again in a minute", "error", err)
			}
			if why != said && why != "" {
				s.logger.WarnContext(ctx, "the inbox is not swept", "reason", why)
			}
			said = why
			if err != nil || forgotten < sweepChunk {
				break
			}
		}
		if total > 0 {
			s.logger.DebugContext(ctx, "swept the inbox", "events", total)
		}
	}
}

// forget removes the records of a chunk of events. The order of its steps matters. First it finds events that the log can no longer
// publish. Then it reads the end of the stream. Then it waits until every lane has passed that end: a lane that still reads one of these
// events records the sequence.
func (s *Subscriber) forget(ctx context.Context) (forgotten int, why string, err error) {
	state, err := s.ports.Stream.State(ctx)
	if err != nil {
		return 0, "", err
	}
	stream := state.Created
	ids, why, err := s.ports.Sweeper.Candidates(ctx, s.id, stream, s.opts.Retention, sweepChunk)
	if err != nil || len(ids) == 0 {
		return 0, why, err
	}
	if state, err = s.ports.Stream.State(ctx); err != nil || state.Created != stream {
		return 0, "", err
	}
	for waited := time.Duration(0); waited < passTimeout && ctx.Err() == nil; waited += passPoll {
		view, err := s.ports.Checkpoints.Heartbeat(ctx, s.id, s.instance)
		if err != nil {
			return 0, "", err
		}
		if allLanesPassed(view, state) {
			forgotten, err = s.ports.Sweeper.Sweep(ctx, s.id, stream, ids, state.First, state.Last)
			return forgotten, "", err
		}
		sleep(ctx, passPoll)
	}
	return 0, "", nil
}

// allLanesPassed reports whether every lane has passed the end of the stream.
func allLanesPassed(view inbox.View, state inbox.StreamState) bool {
	for _, lane := range view.Lanes {
		if lane.Stream != state.Created || lane.Sequence < state.Last {
			return false
		}
	}
	return len(view.Lanes) > 0
}
