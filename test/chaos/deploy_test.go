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
	// newType is the type of events that the program of before does not know.
	newType = "outboxie.order.shipped.v1"
	// deployedFirst is the subscriber whose copies do not know it in the beginning. Nobody writes events of the type before this subscriber
	// wants them: what came earlier would be passed over, as it should.
	deployedFirst = "invoices-4-lanes"
)

// unhandled remembers each event that became a letter because the program had no handler for it.
const unhandled = `;
CREATE TABLE chaos_unhandled (subscriber text, event_id text, PRIMARY KEY (subscriber, event_id));
CREATE FUNCTION chaos_unhandled() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO chaos_unhandled VALUES (NEW.subscriber, NEW.event_id) ON CONFLICT DO NOTHING;
	RETURN NULL;
END $$;
CREATE TRIGGER chaos_unhandled AFTER INSERT OR UPDATE ON dead_letters FOR EACH ROW WHEN (NEW._no_handler) EXECUTE FUNCTION chaos_unhandled()`

// buildBefore has the program built that does not know the new type: the same program, but for one line of its registry. w.before waits for
// it. If nothing is to be deployed, every copy knows the type from the beginning.
func (w *world) buildBefore(t *testing.T) {
	t.Helper()
	deploys := false
	for _, c := range wanted() {
		deploys = deploys || c.kind == typeDeployed
	}
	if !deploys {
		w.deployed.Store(true)
		w.before = func() string { return w.program }
		return
	}
	const known = "\t\tordering.TypeShipped:   t.changed,\n"
	source, err := filepath.Abs("../../internal/app/totals/totals.go")
	require.NoError(t, err)
	text, err := os.ReadFile(source)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(text), known), "the registry is another one by now")
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
	w.before = func() string {
		building.Wait()
		require.NoError(t, failed, "%s", said)
		return program
	}
}

// deploy replaces some copies of a subscriber by those of the program of before, so that copies that know a type and others run side by
// side, and puts them back in the end. The first time all copies are of the program of before, and become new ones first.
func (n *nemesis) deploy(f fault) func() {
	g, first := n.groups[f.number%2], !n.deployed.Load() // the third one has another handler
	back := 1 + int(f.number>>8%uint64(len(g.copies)))
	if first {
		g, back = n.groups[1], len(n.groups[1].copies)
	}
	killed := f.number>>16%2 == 0
	n.note("%s: %s, %d copies go back to the program of before, %s between two, killed: %t, for the first time: %t",
		f.kind, g.id, back, f.hold/4, killed, first)
	n.ledger.Unknown(g.id, newType)
	for _, m := range g.copies {
		n.hit[m] = true
	}
	var rolled sync.WaitGroup
	rolled.Go(func() {
		if first {
			n.moving.Go(n.awaitDeployed)
			n.replace(g.copies, n.program, killed, f.hold/4)
			await(patience/2, n.deployed.Load)
		}
		n.replace(g.copies[:back], n.before(), killed, f.hold/4)
	})
	return func() {
		rolled.Wait()
		if first {
			await(patience/2, func() bool { return n.unhandled(g.id) > 0 })
		}
		n.replace(g.copies[:back], n.program, killed, f.hold/4)
		n.note("%d events of %s had no handler so far", n.unhandled(g.id), g.id)
	}
}

// await waits until something is so, but not for ever: another fault may keep it from being so.
func await(within time.Duration, so func() bool) {
	for end := time.Now().Add(within); !so() && time.Now().Before(end); {
		pause(context.Background(), lookEvery)
	}
}

// replace lets copies be of another program, one after the other.
func (n *nemesis) replace(members []*member, program string, killed bool, between time.Duration) {
	for _, m := range members {
		if killed {
			m.kill()
		} else {
			m.stop()
		}
		m.program = program
		if err := m.start(); err != nil {
			n.complain("%s does not start: %v", m.name, err)
		}
		pause(context.Background(), between)
	}
}

// awaitDeployed lets events of the new type be written as soon as the subscriber wants them. Copies of the program of before may not know
// that for up to a second.
func (n *nemesis) awaitDeployed() {
	for end := time.Now().Add(4 * patience); time.Now().Before(end); pause(context.Background(), 5*time.Millisecond) {
		var wanted bool
		err := n.db.QueryRow("SELECT EXISTS (SELECT FROM subscriber_types WHERE subscriber = $1 AND event_type = $2)", deployedFirst, newType).Scan(&wanted)
		if err == nil && wanted {
			n.deployed.Store(true)
			n.note("%s wants %s", deployedFirst, newType)
			return
		}
	}
	n.complain("%s does not want %s after a copy that knows it has begun", deployedFirst, newType)
}

// unhandled returns how many events of a subscriber had no handler for a while.
func (w *world) unhandled(subscriber string) (count int) {
	_ = w.db.QueryRow("SELECT count(*) FROM chaos_unhandled WHERE subscriber = $1", subscriber).Scan(&count) // zero is no bite
	return count
}
