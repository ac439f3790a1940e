package chaos_test

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/assylzhan-a/outboxie/test/chaos/checker"
)

// lotOf is an order with an event that the broker can never take, and some behind it.
type lotOf struct {
	order  uuid.UUID
	refuse checker.ID
}

// lotFault makes an order that has to be parked, or looks after the oldest one: its oversize event is given up, and the
// others are sent after all.
func (n *nemesis) lotFault(f fault) func() {
	n.note("%s", f.kind)
	if f.kind == eventOversize {
		n.makeLot(f)
		return func() {}
	}
	if len(n.lots) == 0 {
		n.makeLot(f)
	}
	return n.repairLot
}

func (n *nemesis) makeLot(f fault) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	made := lotOf{order: uuid.New()}
	at := int(f.number % 3)
	for version := range 5 {
		ballast := ""
		if version == at {
			ballast = oversized
		}
		event, err := commitEvent(ctx, n.db, n.ledger, made.order, ballast)
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

// repairLot waits until the oldest one is parked, and does what an operator would.
func (n *nemesis) repairLot() {
	if len(n.lots) == 0 {
		return
	}
	oldest := n.lots[0]
	var position int64
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for n.db.QueryRowContext(ctx, "SELECT position FROM outbox_parked WHERE event_id = $1 AND state = 'parked'",
		oldest.refuse.String()).Scan(&position) != nil {
		if !pause(ctx, 50*time.Millisecond) {
			n.complain("order %s was not parked within %s, although its event %s is too large", oldest.order, patience, oldest.refuse)
			return
		}
	}
	n.lots = n.lots[1:]
	n.command("outbox", "discard", "--position", strconv.FormatInt(position, 10), "--yes")
	n.command("outbox", "redrive", "--aggregate", "order/"+oldest.order.String())
	if _, err := commitEvent(ctx, n.db, n.ledger, oldest.order, ""); err != nil {
		n.note("order %s got no event behind the redriven ones: %v", oldest.order, err)
	}
}

// command runs the program as an operator would; again, while the database is not there.
func (n *nemesis) command(args ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		cmd := exec.CommandContext(ctx, n.program, args...)
		cmd.Env = append(os.Environ(), "DATABASE_URL="+n.postgres.URL, "NATS_URL="+n.broker.url())
		said, err := cmd.CombinedOutput()
		n.note("outboxie %v: %v\n%s", args, err, said)
		if err == nil {
			return
		}
		if !pause(ctx, 500*time.Millisecond) {
			n.complain("outboxie %v: %v\n%s", args, err, said)
			return
		}
	}
}
