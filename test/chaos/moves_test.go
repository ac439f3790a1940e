package chaos_test

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// maxRewind limits the messages that a rewind goes back. The subscriber with external effects goes back less far, because it handles one
// message a transaction, even one that it drops.
const maxRewind = 2000

// move rewinds a subscriber, or changes its number of lanes for a while, while other faults go on. It repeats the command until it succeeds.
func (in *injector) move(f fault) func() {
	g := in.groupOf(f)
	if f.kind == subscriberRewind {
		in.moving.Go(func() {
			if in.retryCommand(f.kind, func() ([]string, error) { return in.backwards(g, f) }) {
				in.tookEffect(f.kind)
			}
		})
		return func() {}
	}
	lanes := 1 + int(f.number>>8%8)
	if lanes == g.lanes {
		lanes++
	}
	over := make(chan struct{})
	change := func(lanes int) func() ([]string, error) {
		return func() ([]string, error) {
			return []string{"subscriber", "lanes", "--id", g.id, "--to", strconv.Itoa(lanes)}, nil
		}
	}
	in.moving.Go(func() {
		if in.retryCommand(f.kind, change(lanes)) {
			in.tookEffect(f.kind)
		}
		<-over
		in.retryCommand(f.kind, change(g.lanes))
	})
	return func() { close(over) }
}

// backwards returns the command that rewinds a subscriber from its present position, in one of the four ways to name the target.
func (in *injector) backwards(g *group, f fault) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	most := uint64(maxRewind)
	if g.external {
		most /= 10
	}
	distance := int64(1 + f.number>>16%most)
	var sequence, progress int64
	if err := in.db.QueryRowContext(ctx, "SELECT max(sequence), coalesce(max(progress), 0) FROM subscriber_lanes WHERE subscriber = $1", g.id).
		Scan(&sequence, &progress); err != nil {
		return nil, err
	}
	to := fmt.Sprintf("sequence:%d", max(0, sequence-distance))
	switch f.number >> 8 % 4 {
	case 0:
		if !g.external {
			to = "start"
		}
	case 1:
		to = fmt.Sprintf("position:%d", max(0, progress-distance))
	case 2:
		to = "time:" + time.Now().Add(-time.Duration(distance)*20*time.Millisecond).UTC().Format(time.RFC3339Nano)
	}
	return []string{"subscriber", "rewind", "--id", g.id, "--to", to}, nil
}

// retryCommand runs a command until it succeeds. It reports a problem if that takes too long.
func (in *injector) retryCommand(what kind, command func() ([]string, error)) bool {
	var said string
	for end := time.Now().Add(4 * waitTimeout); time.Now().Before(end); pause(context.Background(), 300*time.Millisecond) {
		args, err := command()
		if err != nil {
			said = err.Error()
			continue
		}
		said, err = in.operate(args...)
		in.note("outboxie %v: %v\n%s", args, err, said)
		if err == nil {
			return true
		}
	}
	in.report("%s: the command never succeeds: %s", what, said)
	return false
}
