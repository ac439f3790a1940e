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

// maxRepublished limits the events in the log for a deletion of the stream: all of them are published again, and every subscriber reads them
// once more.
const maxRepublished = 5000

// damage deletes the stream or sets the sequence of positions back, which only an operator can repair. When the fault ends, an operator runs
// `outboxie outbox adopt` until the relay works again. Other faults go on meanwhile.
func (in *injector) damage(t *testing.T, f fault) func() {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if !in.repairing.TryLock() {
		in.note("%s: no effect, the last one is still being repaired", f.kind)
		return func() {}
	}
	var err error
	switch f.kind {
	case streamDeleted:
		err = in.deleteStream(ctx)
	case sequenceSetBack:
		_, err = in.db.ExecContext(ctx, "SELECT setval('outbox_position_seq', $1)", in.unused+int64(f.number%300))
	}
	in.note("%s for %s: %v", f.kind, f.hold, err)
	return func() {
		go func() {
			defer in.repairing.Unlock()
			if reason := in.repair(); reason != "" {
				in.report("%s could not be repaired: %s", f.kind, reason)
			}
			in.note("%s is repaired", f.kind)
		}()
	}
}

// unusedPositions is how many positions are left unused before the faults begin. A fault sets the sequence back into this range. The relay needs
// up to a second to notice. Meanwhile events get positions that the relay has passed. The range is so wide that writers do not reach the relay's
// position in that time: docs/engine.md, "What cannot be promised", excludes that case.
const unusedPositions = 4000

// leaveUnused lets the sequence skip unusedPositions, and remembers where they begin.
func (h *harness) leaveUnused(t *testing.T) {
	t.Helper()
	err := h.db.QueryRowContext(t.Context(), "SELECT setval('outbox_position_seq', last_value + $1) - $1 FROM outbox_position_seq", unusedPositions).Scan(&h.unused)
	require.NoError(t, err)
	h.unused += 100 // writers may have taken some meanwhile
}

func (in *injector) deleteStream(ctx context.Context) error {
	var events int
	if err := in.db.QueryRowContext(ctx, "SELECT count(*) FROM outbox").Scan(&events); err != nil || events > maxRepublished {
		in.note("%d events are too many to publish them again (%v)", events, err)
		return err
	}
	js, err := jetstream.New(in.nc)
	if err != nil {
		return err
	}
	return js.DeleteStream(ctx, "ORDERS")
}

// repair adopts until the relay works and the log is in order. It returns what is still wrong when it gives up.
func (in *injector) repair() (wrong string) {
	for end := time.Now().Add(4 * waitTimeout); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		said, err := in.operate("outbox", "status", "--json")
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
		js, err := jetstream.New(in.nc)
		if err == nil {
			_, err = js.Stream(ctx, "ORDERS")
		}
		cancel()
		sound := err == nil && status.Misplaced == 0 && status.Next > status.Last
		if sound && status.State != "halted" && status.State != "leaderless" && status.State != "set_back" {
			return ""
		}
		said, err = in.operate("outbox", "adopt", "--yes")
		wrong = status.State + ": " + said
		if err == nil {
			in.note("adopted: %s", strings.ReplaceAll(said, "\n", " "))
		}
	}
	return wrong
}

// operate runs a command as an operator does, over connections that no fault cuts.
func (h *harness) operate(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, h.program, args...)
	command.Env = append(os.Environ(), "DATABASE_URL="+h.address, "NATS_URL="+h.broker.url())
	said, err := command.CombinedOutput()
	return string(said), err
}

// awaitRepairs waits until all repairs and all operators' commands have ended.
func (in *injector) awaitRepairs(t *testing.T) {
	t.Helper()
	in.moving.Wait()
	require.Eventually(t, func() bool {
		free := in.repairing.TryLock()
		if free {
			in.repairing.Unlock()
		}
		return free
	}, 5*waitTimeout, 50*time.Millisecond)
}
