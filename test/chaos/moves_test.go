package chaos_test

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// farthest is how many messages a rewind goes back at most. The subscriber that calls handles one message a transaction, also one that it
// drops, so it goes back less far.
const farthest = 2000

// move sends a subscriber back, or gives it another number of lanes for a while, as an operator does who tries until it works. Other faults
// go on meanwhile.
func (n *nemesis) move(f fault) func() {
	g := n.groupOf(f)
	if f.kind == subscriberRewind {
		n.moving.Go(func() {
			if n.insist(f.kind, func() ([]string, error) { return n.backwards(g, f) }) {
				n.tookEffect(f.kind)
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
	n.moving.Go(func() {
		if n.insist(f.kind, change(lanes)) {
			n.tookEffect(f.kind)
		}
		<-over
		n.insist(f.kind, change(g.lanes))
	})
	return func() { close(over) }
}

// backwards returns the command that sends a subscriber back from where it is by now. It names the place in one of four ways.
func (n *nemesis) backwards(g *group, f fault) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	most := uint64(farthest)
	if g.external {
		most /= 10
	}
	distance := int64(1 + f.number>>16%most)
	var sequence, progress int64
	if err := n.db.QueryRowContext(ctx, "SELECT max(sequence), coalesce(max(progress), 0) FROM subscriber_lanes WHERE subscriber = $1", g.id).
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

// insist runs a command until it succeeds. It complains if that takes too long.
func (n *nemesis) insist(what kind, command func() ([]string, error)) bool {
	var said string
	for end := time.Now().Add(4 * patience); time.Now().Before(end); pause(context.Background(), 300*time.Millisecond) {
		args, err := command()
		if err != nil {
			said = err.Error()
			continue
		}
		said, err = n.operate(args...)
		n.note("outboxie %v: %v\n%s", args, err, said)
		if err == nil {
			return true
		}
	}
	n.complain("%s: it does not work: %s", what, said)
	return false
}
