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
		_, err = n.db.ExecContext(ctx, "SELECT setval('outbox_position_seq', $1)", n.unused+int64(f.number%300))
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

// farBack is how many positions nobody uses before the faults begin. The sequence goes back to there, so that writers cannot overtake
// the relay before it notices, which takes up to a second: docs/engine.md, "What cannot be promised", excludes that. Events that come
// meanwhile are accepted at positions which the relay has passed.
const farBack = 4000

// leaveUnused makes the sequence skip farBack positions, and remembers where they begin.
func (w *world) leaveUnused(t *testing.T) {
	t.Helper()
	err := w.db.QueryRowContext(t.Context(), "SELECT setval('outbox_position_seq', last_value + $1) - $1 FROM outbox_position_seq", farBack).Scan(&w.unused)
	require.NoError(t, err)
	w.unused += 100 // writers may have taken some meanwhile
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
	for end := time.Now().Add(4 * patience); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
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
func (w *world) operate(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, w.program, args...)
	command.Env = append(os.Environ(), "DATABASE_URL="+w.address, "NATS_URL="+w.broker.url())
	said, err := command.CombinedOutput()
	return string(said), err
}

// awaitRepairs returns when nothing is being repaired any more, and operators have nothing more to do.
func (n *nemesis) awaitRepairs(t *testing.T) {
	t.Helper()
	n.moving.Wait()
	require.Eventually(t, func() bool {
		free := n.repairing.TryLock()
		if free {
			n.repairing.Unlock()
		}
		return free
	}, 5*patience, 50*time.Millisecond)
}
