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

// oversizeOrder is an order with an event that the broker can never accept, and some events behind it.
type oversizeOrder struct {
	order  uuid.UUID
	refuse checker.ID
}

// parkingFault places an order that has to be parked, or repairs the oldest one: it discards the oversize event, and redrives the others.
// Every third time the operator forgets to discard, so that all events are parked again.
func (in *injector) parkingFault(f fault) func() {
	in.note("%s", f.kind)
	if f.kind == eventOversize {
		in.placeOversize(f)
		return func() {}
	}
	if len(in.oversized) == 0 {
		in.placeOversize(f)
	}
	return func() { in.repairOldest(in.counts[lotRepaired]%3 > 0) } // the fault is counted before it ends
}

func (in *injector) placeOversize(f fault) {
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	made := oversizeOrder{order: uuid.New()}
	at := int(f.number % 3)
	for version := range 5 {
		what := special{}
		if version == at {
			what.ballast = oversized
		}
		event, err := commitEvent(ctx, in.db, in.ledger, made.order, what)
		if err != nil {
			in.note("order %s has %d events only: %v", made.order, version, err)
			break
		}
		if version == at {
			made.refuse = event
		}
	}
	if made.refuse != (checker.ID{}) {
		in.note("order %s: event %s is too large", made.order, made.refuse)
		in.oversized = append(in.oversized, made)
	}
}

// repairOldest repairs the oldest order as an operator would. If another fault prevents the repair, the order stays for the next time. An order
// that stays until the end is no loss, because its events are parked.
func (in *injector) repairOldest(discard bool) {
	if len(in.oversized) == 0 {
		return
	}
	oldest := in.oversized[0]
	position, state := in.awaitParked(oldest.refuse)
	switch {
	case position == 0:
		in.note("order %s is not parked yet", oldest.order)
		return
	case state == "parked" && discard:
		if !in.command("outbox", "discard", "--position", strconv.FormatInt(position, 10), "--yes") {
			return
		}
		state = "discarded"
	}
	var left int
	if err := in.db.QueryRow("SELECT count(*) FROM outbox_parked WHERE aggregate_id = $1 AND state = 'parked'",
		oldest.order.String()).Scan(&left); err != nil {
		return
	}
	if left > 0 && !in.command("outbox", "redrive", "--aggregate", "order/"+oldest.order.String()) {
		return
	}
	if state != "parked" {
		in.oversized = in.oversized[1:]
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	if _, err := commitEvent(ctx, in.db, in.ledger, oldest.order, special{}); err != nil {
		in.note("order %s got no event behind the redriven ones: %v", oldest.order, err)
	}
}

// awaitParked waits a few seconds for an event in the parking lot. Position 0 means that it is not there.
func (in *injector) awaitParked(event checker.ID) (position int64, state string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	for in.db.QueryRowContext(ctx, "SELECT position, state FROM outbox_parked WHERE event_id = $1", event.String()).
		Scan(&position, &state) != nil {
		if !pause(ctx, 50*time.Millisecond) {
			return 0, ""
		}
	}
	return position, state
}

// command runs the program as an operator would. It reports a problem if three tries fail although the database works.
func (in *injector) command(args ...string) bool {
	for try := 1; ; try++ {
		ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
		cmd := exec.CommandContext(ctx, in.program, args...)
		cmd.Env = append(os.Environ(), "DATABASE_URL="+in.address, "NATS_URL="+in.broker.url())
		said, err := cmd.CombinedOutput()
		cancel()
		in.note("outboxie %v: %v\n%s", args, err, said)
		switch {
		case err == nil:
			return true
		case in.db.Ping() != nil:
			return false
		case try == 3:
			in.report("outboxie %v: %v\n%s", args, err, said)
			return false
		}
		pause(context.Background(), time.Second)
	}
}
