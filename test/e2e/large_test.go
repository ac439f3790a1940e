package e2e_test

import (
	"database/sql"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// tooLarge are payloads, as SQL, that are so large that the program must not read them into memory. The second does not compress.
var tooLarge = []struct{ payload, reason string }{
	{"to_json(repeat('x', 24 << 20))", "its payload takes "},
	{"(SELECT to_json(string_agg(md5(n::text), '')) FROM generate_series(1, 1 << 19) AS n)", "its payload takes 16777218 bytes, and the broker takes at most 1048576"},
	{"(SELECT to_json(string_agg(md5(n::text) || repeat('x', 100), '')) FROM generate_series(1, 150000) AS n)", "its payload takes more than "},
}

// TestLargeRowsDoNotReachMemory checks that events of 16 to 24 MiB, written by plain SQL before the schema refused them, are parked without
// being read, with the later events of their orders. Other orders flow, and the commands that show, redrive and discard events do not read
// them either.
func TestLargeRowsDoNotReachMemory(t *testing.T) {
	db, broker, environment, instance := serveOdd(t)
	first, err := infra.Place(instance.API())
	require.NoError(t, err)
	require.Eventually(t, func() bool { return published(t, broker) == 1 }, waitTimeout, tick)
	before := mostMemory(t, instance)

	insertLarge(t, db, first.ID, 2, tooLarge[0].payload)
	insertLarge(t, db, first.ID, 3, "'{}'")
	for i, large := range tooLarge {
		insertLarge(t, db, fmt.Sprint("other-", i), 1, large.payload)
		insertLarge(t, db, fmt.Sprint("other-", i), 2, "'{}'")
	}
	const others = 20
	placeMany(t, instance.API(), others)
	require.Eventually(t, func() bool { return parkedRows(t, db) == 2+2*len(tooLarge) }, waitTimeout, tick)
	require.Eventually(t, func() bool { return published(t, broker) == uint64(1+others+1+len(tooLarge)) }, waitTimeout, tick,
		"one notice for each aggregate, and every other event")

	for i, large := range tooLarge {
		reasons := reasonsOf(t, db, fmt.Sprint("other-", i))
		require.Contains(t, reasons[0], large.reason)
		require.Contains(t, reasons[1], "behind position")
	}
	showLarge(t, instance, environment, first.ID)
	t.Logf("the program took at most %d MiB before, and %d MiB with events of 24 MiB", before>>20, mostMemory(t, instance)>>20)
	require.Less(t, mostMemory(t, instance)-before, int64(12<<20))
}

// showLarge runs each request and command that shows events, redrives the large events in vain, and discards one.
func showLarge(t *testing.T, instance *infra.Process, environment []string, order string) {
	t.Helper()
	events, err := infra.Client{Address: instance.API()}.OrderEvents(t.Context(), order)
	require.NoError(t, err)
	require.Len(t, events, 3)
	require.Equal(t, "parked", events[1].Delivery)
	require.Contains(t, events[1].Reason, "its payload takes")
	run := func(args ...string) string {
		t.Helper()
		said, err := infra.Outboxie(t, environment, append([]string{"outbox"}, args...)...)
		require.NoError(t, err, said)
		return said
	}
	require.Contains(t, run("parked"), "its payload takes")
	require.Contains(t, run("status"), fmt.Sprintf("%d events", 2+2*len(tooLarge)))
	require.Contains(t, run("list", "--limit", "100"), "other-0")
	require.Contains(t, run("list", "--limit", "100", "--json"), `"payload_omitted": "it takes more than 1048576 bytes"`)
	run("redrive", "--all")
	require.Eventually(t, func() bool { return strings.Count(instance.String(), "parked again") == 1+len(tooLarge) }, waitTimeout, tick)
	run("discard", "--position", "4", "--yes")
	run("redrive", "--aggregate", "order/other-0")
	instance.WaitFor("redrove parked events")
}

func insertLarge(t *testing.T, db *sql.DB, order string, version int64, payload string) {
	t.Helper()
	_, err := db.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		VALUES (gen_random_uuid(), 'order', $1, $2, 'outboxie.order.paid.v1', 'orders.paid', `+payload+`)`, order, version)
	require.NoError(t, err)
}

func parkedRows(t *testing.T, db *sql.DB) (count int) {
	t.Helper()
	require.NoError(t, db.QueryRow("SELECT count(*) FROM outbox_parked WHERE state = 'parked'").Scan(&count))
	return count
}

func reasonsOf(t *testing.T, db *sql.DB, order string) (reasons []string) {
	t.Helper()
	rows, err := db.Query("SELECT reason FROM outbox_parked WHERE aggregate_id = $1 ORDER BY position", order)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var reason string
		require.NoError(t, rows.Scan(&reason))
		reasons = append(reasons, reason)
	}
	require.NoError(t, rows.Err())
	require.Len(t, reasons, 2)
	return reasons
}

// mostMemory returns how much memory a process has had at most, as the kernel counts it.
func mostMemory(t *testing.T, process *infra.Process) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process.PID()))
	if err != nil {
		t.Skip("this system does not tell how much memory a process takes")
	}
	_, text, ok := strings.Cut(string(status), "VmHWM:")
	require.True(t, ok)
	kilobytes, err := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
	require.NoError(t, err)
	return kilobytes << 10
}
