package chaos_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// newType is the type of events that the old program does not know.
	newType = "outboxie.order.shipped.v1"
	// deployedFirst is the subscriber whose copies do not know newType in the beginning. Before this subscriber wants the type, it rightly skips
	// such events. So the writers wait until it does.
	deployedFirst = "vouchers-4-lanes"
)

// unhandledSchema records each event that became a dead letter because the program had no handler for it.
const unhandledSchema = `;
CREATE TABLE chaos_unhandled (subscriber text, event_id text, PRIMARY KEY (subscriber, event_id));
CREATE FUNCTION chaos_unhandled() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO chaos_unhandled VALUES (NEW.subscriber, NEW.event_id) ON CONFLICT DO NOTHING;
	RETURN NULL;
END $$;
CREATE TRIGGER chaos_unhandled AFTER INSERT OR UPDATE ON dead_letters FOR EACH ROW WHEN (NEW._no_handler) EXECUTE FUNCTION chaos_unhandled()`

// buildOldProgram builds the program without the line of its registry that names the new type. h.oldProgram waits for the build. If no new
// type is to be deployed, every copy knows the type from the beginning.
func (h *harness) buildOldProgram(t *testing.T) {
	t.Helper()
	deploys := false
	for _, c := range selectedTypes() {
		deploys = deploys || c.kind == typeDeployed
	}
	if !deploys {
		h.deployed.Store(true)
		h.oldProgram = func() string { return h.program }
		return
	}
	const known = "\t\torders.TypeShipped:   t.changed,\n"
	source, err := filepath.Abs("../../internal/app/totals/totals.go")
	require.NoError(t, err)
	text, err := os.ReadFile(source)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(text), known), "the registry has no such line any more")
	folder := t.TempDir()
	replaced, overlay, program := filepath.Join(folder, "totals.go"), filepath.Join(folder, "overlay.json"), filepath.Join(folder, "outboxie")
	require.NoError(t, os.WriteFile(replaced, []byte(strings.Replace(string(text), known, "", 1)), 0o600))
	files, err := json.Marshal(map[string]map[string]string{"Replace": {source: replaced}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, files, 0o600))
	build := exec.Command("go", "build", "-ldflags=-s -w", "-overlay", overlay, "-o", program, "github.com/assylzhan-a/outboxie/cmd/outboxie")
	said, failed := []byte(nil), error(nil)
	var building sync.WaitGroup
	building.Go(func() { said, failed = build.CombinedOutput() })
	t.Cleanup(building.Wait)
	h.oldProgram = func() string {
		building.Wait()
		require.NoError(t, failed, "%s", said)
		return program
	}
}

// deploy runs some copies of a subscriber with the old program beside new ones, and brings the new program back in the end. The first time all
// copies are old, so they become new ones first. If no event of the subscriber has ever lacked a handler, all copies go back to the old program.
func (in *injector) deploy(f fault) func() {
	g, first := in.groups[f.number%2], !in.deployed.Load() // the third subscriber has another handler
	back := 1 + int(f.number>>8%uint64(len(g.copies)))
	if first {
		g = in.groups[1]
	}
	never := in.unhandled(g.id) == 0
	if never {
		back = len(g.copies)
	}
	killed := f.number>>16%2 == 0
	in.note("%s: %s, %d copies go back to the old program, %s between two, killed: %t, for the first time: %t",
		f.kind, g.id, back, f.hold/4, killed, first)
	in.ledger.UnknownType(g.id, newType)
	for _, m := range g.copies {
		in.hit[m] = true
	}
	var rolled sync.WaitGroup
	rolled.Go(func() {
		if first {
			in.moving.Go(in.awaitDeployed)
			in.replace(g.copies, in.program, killed, f.hold/4)
			await(waitTimeout/2, in.deployed.Load)
		}
		in.replace(g.copies[:back], in.oldProgram(), killed, f.hold/4)
	})
	return func() {
		rolled.Wait()
		if never {
			await(waitTimeout/2, func() bool { return in.unhandled(g.id) > 0 })
		}
		in.replace(g.copies[:back], in.program, killed, f.hold/4)
		in.note("%d events of %s had no handler so far", in.unhandled(g.id), g.id)
	}
}

// await waits until the condition holds, or the time is over: another fault may prevent it.
func await(within time.Duration, condition func() bool) {
	for end := time.Now().Add(within); !condition() && time.Now().Before(end); {
		pause(context.Background(), pollInterval)
	}
}

// replace restarts copies with another program, one after the other.
func (in *injector) replace(members []*member, program string, killed bool, between time.Duration) {
	for _, m := range members {
		if killed {
			m.kill()
		} else {
			m.stop()
		}
		m.program = program
		if err := m.start(); err != nil {
			in.report("%s does not start: %v", m.name, err)
		}
		pause(context.Background(), between)
	}
}

// awaitDeployed lets writers write events of the new type as soon as the subscriber wants them. Copies of the old program may learn that up
// to a second later.
func (in *injector) awaitDeployed() {
	for end := time.Now().Add(4 * waitTimeout); time.Now().Before(end); pause(context.Background(), 5*time.Millisecond) {
		var wanted bool
		err := in.db.QueryRow("SELECT EXISTS (SELECT FROM subscriber_types WHERE subscriber = $1 AND event_type = $2)", deployedFirst, newType).Scan(&wanted)
		if err == nil && wanted {
			in.deployed.Store(true)
			in.note("%s wants %s", deployedFirst, newType)
			return
		}
	}
	in.report("%s does not want %s after a copy that knows it has begun", deployedFirst, newType)
}

// unhandled returns how many events of a subscriber had no handler at some time.
func (h *harness) unhandled(subscriber string) (count int) {
	_ = h.db.QueryRow("SELECT count(*) FROM chaos_unhandled WHERE subscriber = $1", subscriber).Scan(&count) // zero: not yet
	return count
}
