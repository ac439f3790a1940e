package chaos_test

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

// lotOf is an order with an event that the broker can never take, and some behind it.
type lotOf struct {
	order  uuid.UUID
	refuse checker.ID
}

// lotFault makes an order that has to be parked, or looks after the oldest one: its oversize event is given up, and the
// others are sent after all. Every third time the operator forgets the first half, and all of it is parked again.
func (n *nemesis) lotFault(f fault) func() {
	n.note("%s", f.kind)
	if f.kind == eventOversize {
		n.makeLot(f)
		return func() {}
	}
	if len(n.lots) == 0 {
		n.makeLot(f)
	}
	return func() { n.repairLot(n.counts[lotRepaired]%3 > 0) } // counted from 1 by then
}

func (n *nemesis) makeLot(f fault) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	made := lotOf{order: uuid.New()}
	at := int(f.number % 3)
	for version := range 5 {
		what := special{}
		if version == at {
			what.ballast = oversized
		}
		event, err := commitEvent(ctx, n.db, n.ledger, made.order, what)
		if err != nil {
			n.note("order %s has %d events only: %v", made.order, version, err)
			break
		}
		if version == at {
			made.refuse = event
		}
	}
	if made.refuse != (checker.ID{}) {
		n.note("order %s: event %s is too large", made.order, made.refuse)
		n.lots = append(n.lots, made)
	}
}

// repairLot does what an operator would about the oldest one. What it finds out of reach, because of another fault, is
// left for the next time: in the end an event that is neither parked nor in the stream is a loss.
func (n *nemesis) repairLot(discard bool) {
	if len(n.lots) == 0 {
		return
	}
	oldest := n.lots[0]
	position, state := n.awaitParked(oldest.refuse)
	switch {
	case position == 0:
		n.note("order %s is not parked yet", oldest.order)
		return
	case state == "parked" && discard:
		if !n.command("outbox", "discard", "--position", strconv.FormatInt(position, 10), "--yes") {
			return
		}
		state = "discarded"
	}
	var left int
	if err := n.db.QueryRow("SELECT count(*) FROM outbox_parked WHERE aggregate_id = $1 AND state = 'parked'",
		oldest.order.String()).Scan(&left); err != nil {
		return
	}
	if left > 0 && !n.command("outbox", "redrive", "--aggregate", "order/"+oldest.order.String()) {
		return
	}
	if state != "parked" {
		n.lots = n.lots[1:]
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := commitEvent(ctx, n.db, n.ledger, oldest.order, special{}); err != nil {
		n.note("order %s got no event behind the redriven ones: %v", oldest.order, err)
	}
}

// awaitParked looks for an event in the parking lot for a while. Position 0: it is not there.
func (n *nemesis) awaitParked(event checker.ID) (position int64, state string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	for n.db.QueryRowContext(ctx, "SELECT position, state FROM outbox_parked WHERE event_id = $1", event.String()).
		Scan(&position, &state) != nil {
		if !pause(ctx, 50*time.Millisecond) {
			return 0, ""
		}
	}
	return position, state
}

// command runs the program as an operator would. It complains when the program fails several times although the database
// is there.
func (n *nemesis) command(args ...string) bool {
	for try := 1; ; try++ {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		cmd := exec.CommandContext(ctx, n.program, args...)
		cmd.Env = append(os.Environ(), "DATABASE_URL="+n.address, "NATS_URL="+n.broker.url())
		said, err := cmd.CombinedOutput()
		cancel()
		n.note("outboxie %v: %v\n%s", args, err, said)
		switch {
		case err == nil:
			return true
		case n.db.Ping() != nil:
			return false
		case try == 3:
			n.complain("outboxie %v: %v\n%s", args, err, said)
			return false
		}
		pause(context.Background(), time.Second)
	}
}
