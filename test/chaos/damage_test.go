package chaos_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// few is how many events there may be for the stream to be deleted: all of them are published again, and every subscriber
// goes through them once more.
const few = 5000

// damage is what only an operator can repair: the stream is deleted, or the sequence of positions goes back. When its time is
// over an operator adopts what there is, and asks until everything is relayed again; other faults go on meanwhile.
func (n *nemesis) damage(t *testing.T, f fault) func() {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if !n.repairing.TryLock() {
		n.note("%s: nothing came of it, the last one is still being repaired", f.kind)
		return func() {}
	}
	var err error
	switch f.kind {
	case streamDeleted:
		err = n.deleteStream(ctx)
	case sequenceSetBack:
		err = n.setSequenceBack(ctx, 1+int(f.number%300))
	}
	n.note("%s for %s: %v", f.kind, f.hold, err)
	return func() {
		go func() {
			defer n.repairing.Unlock()
			if reason := n.repair(); reason != "" {
				n.complain("%s could not be repaired: %s", f.kind, reason)
			}
			n.note("%s is repaired", f.kind)
		}()
	}
}

// farBack is how many positions the sequence goes back at least: more than the writers can deal before the relay notices, which takes it
// up to a second. What is promised ends where the sequence has overtaken the relay by then (docs/engine.md, "What cannot be promised").
const farBack = 4000

func (n *nemesis) setSequenceBack(ctx context.Context, to int) error {
	var last int
	if err := n.db.QueryRowContext(ctx, "SELECT last_value FROM outbox_position_seq").Scan(&last); err != nil || last < to+farBack {
		n.note("nothing came of it: the sequence is at %d, and would overtake the relay (%v)", last, err)
		return err
	}
	_, err := n.db.ExecContext(ctx, "SELECT setval('outbox_position_seq', $1)", to)
	return err
}

func (n *nemesis) deleteStream(ctx context.Context) error {
	var events int
	if err := n.db.QueryRowContext(ctx, "SELECT count(*) FROM outbox").Scan(&events); err != nil || events > few {
		n.note("%d events are too many to publish them again (%v)", events, err)
		return err
	}
	js, err := jetstream.New(n.nc)
	if err != nil {
		return err
	}
	return js.DeleteStream(ctx, "ORDERS")
}

// repair adopts until the relay is at work and the log is in order. It returns what is still wrong in the end.
func (n *nemesis) repair() (wrong string) {
	for end := time.Now().Add(2 * patience); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		said, err := n.operate("outbox", "status", "--json")
		var status struct {
			State     string `json:"state"`
			Misplaced int    `json:"misplaced"`
			Next      int64  `json:"next_position"`
			Last      int64  `json:"last_position"`
		}
		if err != nil || json.Unmarshal([]byte(said), &status) != nil {
			wrong = said
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		js, err := jetstream.New(n.nc)
		if err == nil {
			_, err = js.Stream(ctx, "ORDERS")
		}
		cancel()
		sound := err == nil && status.Misplaced == 0 && status.Next > status.Last
		if sound && status.State != "halted" && status.State != "leaderless" && status.State != "set_back" {
			return ""
		}
		said, err = n.operate("outbox", "adopt", "--yes")
		wrong = status.State + ": " + said
		if err == nil {
			n.note("adopted: %s", strings.ReplaceAll(said, "\n", " "))
		}
	}
	return wrong
}

// operate runs a command of the program as an operator does, whose connections nobody cuts.
func (n *nemesis) operate(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, n.program, args...)
	command.Env = append(os.Environ(), "DATABASE_URL="+n.address, "NATS_URL="+n.broker.url())
	said, err := command.CombinedOutput()
	return string(said), err
}

// awaitRepairs returns when nothing is being repaired any more.
func (n *nemesis) awaitRepairs(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		free := n.repairing.TryLock()
		if free {
			n.repairing.Unlock()
		}
		return free
	}, 3*patience, 50*time.Millisecond)
}
