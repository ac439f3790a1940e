package interleavings_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// harness holds a database in which interleavings run one after the other. Before each run it restores a state.
type harness struct {
	control *pgx.Conn
	plain   *bun.DB // without a gate: for reads of the log, and for everything after the interleaving
	sides   [2]*side
	stream  *memory.Stream
	tables  []string
	runs    int
	began   time.Time // of the present interleaving

	alone map[[2]*operation]string // the outcomes of operations that run alone, on the one side or the other

	disorder []string // events for which a subscriber's handler was called too early
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	address := infra.Database(t)
	h := &harness{alone: make(map[[2]*operation]string)}
	var err error
	h.control, err = pgx.ConnectConfig(t.Context(), connConfig(t, address))
	require.NoError(t, err)
	t.Cleanup(func() { _ = h.control.Close(context.Background()) })
	h.plain, err = postgres.Open(postgres.Options{URL: address})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.plain.Close()) })
	for i := range h.sides {
		h.sides[i] = &side{index: i, harness: h, events: make(chan event, 4), let: make(chan struct{}), tables: map[string]bool{}}
		h.sides[i].free.Store(true)
		openGated(t, address, h.sides[i])
	}
	rows, err := h.control.Query(t.Context(), `SELECT tablename::text FROM pg_tables
		WHERE schemaname = 'public' AND tablename NOT LIKE 'outboxie%migration%' ORDER BY tablename`)
	require.NoError(t, err)
	h.tables, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for _, table := range h.tables { // autovacuum takes locks of its own
		_, err := h.control.Exec(t.Context(), "ALTER TABLE "+table+" SET (autovacuum_enabled = false)")
		require.NoError(t, err)
	}
	h.keep(t, normal, halted, blocked, retried, openState, bare, tombstoned)
	h.prepare(t)
	return h
}

// keep builds each state once and saves its rows in a schema of its own, with a function that restores them.
func (h *harness) keep(t testing.TB, states ...state) {
	t.Helper()
	for _, s := range states {
		_, err := h.control.Exec(t.Context(), s.rows+"CREATE SCHEMA "+s.name)
		require.NoError(t, err)
		body := fmt.Sprintf("PERFORM setval('public.outbox_position_seq', %d);", lastPosition)
		for _, table := range h.tables {
			_, err := h.control.Exec(t.Context(), fmt.Sprintf("CREATE TABLE %[1]s.%[2]s AS TABLE %[2]s; DELETE FROM %[2]s", s.name, table))
			require.NoError(t, err)
			body += fmt.Sprintf("DELETE FROM %[2]s; INSERT INTO %[2]s OVERRIDING SYSTEM VALUE SELECT * FROM %[1]s.%[2]s;", s.name, table)
		}
		_, err = h.control.Exec(t.Context(), fmt.Sprintf("CREATE FUNCTION %s.again() RETURNS void LANGUAGE plpgsql AS $$ BEGIN %s END $$", s.name, body))
		require.NoError(t, err)
	}
}

const vacuumEvery = 50

// reset restores a state of database and stream.
func (h *harness) reset(ctx context.Context, s state) error {
	if h.runs++; h.runs%vacuumEvery == 0 {
		if _, err := h.control.Exec(ctx, "VACUUM "+strings.Join(h.tables, ", ")); err != nil {
			return err
		}
	}
	if _, err := h.control.Exec(ctx, "SELECT "+s.name+".again()"); err != nil {
		return fmt.Errorf("bring the database into the state %s: %w", s.name, err)
	}
	h.stream = s.stream()
	h.sides[0].sent, h.sides[1].sent = nil, nil
	h.disorder = nil
	h.began = time.Now().Add(-time.Second) // Postgres has the same clock as the test, but rounds its times
	return nil
}

// interleave runs two operations from a state. It repeats the run if a call gave up because the machine is slow.
func (h *harness) interleave(ctx context.Context, s state, both [2]*operation, choose chooser) (*history, error) {
	for tries := 1; ; tries++ {
		if err := h.reset(ctx, s); err != nil {
			return nil, err
		}
		run := &interleaving{sides: h.sides, waits: h.waits, cancel: h.cancel}
		err := run.run(ctx, both, choose)
		if slow := run.answers[0].slow() || run.answers[1].slow(); err != nil || !slow || tries == mostTries {
			return &run.history, err
		}
		choose.again()
	}
}

// Names of prepared statements. The control connection sends these most often.
const (
	waitsName = "waits"
	rowsName  = "rows"
)

func (h *harness) prepare(t testing.TB) {
	t.Helper()
	_, err := h.control.Prepare(t.Context(), waitsName, "SELECT $1::int = ANY (pg_blocking_pids($2::int))")
	require.NoError(t, err)
	var each []string
	for _, table := range h.tables {
		each = append(each, fmt.Sprintf("SELECT '%s', to_jsonb(t)::text FROM %s AS t", table, table))
	}
	_, err = h.control.Prepare(t.Context(), rowsName, strings.Join(each, " UNION ALL "))
	require.NoError(t, err)
}

// waits reports whether a backend waits for a lock that another one holds. who and whom are their process ids.
func (h *harness) waits(ctx context.Context, who, whom uint32) (waits bool, err error) {
	err = h.control.QueryRow(ctx, waitsName, int32(whom), int32(who)).Scan(&waits)
	return waits, err
}

func (h *harness) cancel(ctx context.Context, pid uint32) error {
	_, err := h.control.Exec(ctx, "SELECT pg_cancel_backend($1::int)", int(pid))
	return err
}

// row is a row of any table.
type row map[string]any

// rows reads every table.
func (h *harness) rows(ctx context.Context) (map[string][]row, error) {
	found, err := h.control.Query(ctx, rowsName)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	all := make(map[string][]row)
	for found.Next() {
		var table, text string
		if err := found.Scan(&table, &text); err != nil {
			return nil, err
		}
		var r row
		decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
		decoder.UseNumber()
		if err := decoder.Decode(&r); err != nil {
			return nil, err
		}
		all[table] = append(all[table], r)
	}
	return all, found.Err()
}

func (r row) text(column string) string {
	if value := r[column]; value != nil {
		return fmt.Sprint(value)
	}
	return ""
}

func (r row) number(column string) int64 {
	if number, ok := r[column].(json.Number); ok {
		n, _ := number.Int64()
		return n
	}
	return 0
}

// outcome returns the rows of all tables and the messages of the stream as text. It leaves out values that differ from run to run: the clock,
// new event ids, and the positions of new events, which have an order only within their aggregate.
func (h *harness) outcome(rows map[string][]row) string {
	var lines []string
	for table, all := range rows {
		for _, r := range all {
			if table == "subscriber_copies" && (r.text("instance") == copyName || h.moment(r.text("seen_at")) != "now") {
				continue // a copy's announcement is only a hint, and an old one means nothing
			}
			lines = append(lines, table+" "+h.normalized(table, r))
		}
	}
	slices.Sort(lines)
	for i, message := range h.stream.Messages() {
		lines = append(lines, fmt.Sprintf("stream %d: event %d, progress %d, redriven %t, notice %q, kept %d",
			i+1, message.Event, message.Progress.Position, message.Redriven, message.Parked, message.LastOwnSequence))
	}
	return strings.Join(lines, "\n")
}

func (h *harness) normalized(table string, r row) string {
	fresh := table == "outbox" && r.number("position") > lastPosition
	pending := table == "dead_letters" && (r.text("state") == "waiting" || r.text("state") == "retrying")
	var columns []string
	for name, value := range r {
		text := fmt.Sprint(value)
		switch {
		case pending && (name == "state" || name == "changed_at"):
			text = "pending" // the other letters decide whether this one waits or is retried
		case pending && name == "due_at":
			if text = h.moment(text); text != "later" {
				text = "due"
			}
		case table == "customer_totals" && name == "amount":
			text = fmt.Sprint(r.number("amount") + r.number("amount_minor"))
		case table == "customer_totals" && name == "amount_minor":
			text = "added to amount" // former programs add to this column
		case value == nil:
			text = "-"
		case name == "key_id" || table == "customer_keys" && name == "key":
			text = "random"
		case fresh && name == "headers" && strings.Contains(text, "ce-sealedkey"):
			text = "sealed"
		case strings.HasSuffix(name, "_at"):
			text = h.moment(text)
		case fresh && (name == "position" || name == "event_id" || name == "payload"):
			text = "new"
		case table == "subscriber_lanes" && name == "revision" && r.number(name) > firstRevision:
			text = "of a new subscriber"
		}
		columns = append(columns, name+"="+text)
	}
	slices.Sort(columns)
	return ids.ReplaceAllString(strings.Join(columns, " "), "$1/$2")
}

// firstRevision lies above the revisions of all lanes in the states, and below the revision at which lanes of a new subscriber begin.
const firstRevision = 100

// ids matches the ids that uuidOf makes. They are shown as kind and number.
var ids = regexp.MustCompile(`\b([0-9])0000000-0000-4000-8000-0*([0-9]+)\b`)

// moment shows a time of this run as "now", a time long after it as "later", and an earlier time as it is.
func (h *harness) moment(text string) string {
	at, err := time.Parse(time.RFC3339, text)
	switch {
	case err != nil || at.Before(h.began):
		return text
	case at.After(h.began.Add(leaseTTL / 2)):
		return "later"
	}
	return "now"
}
