package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// hostile has texts that an attacker with access to the outbox may write. They try to run a program in the operator's shell, to control the
// terminal, to reverse a text, or to forge a line or a column.
var hostile = []string{
	"$(touch x)", "`touch x`", "a'; touch x; '", `a" b\`, "-x", "\x1b[31mred\x1b[0m\a", "\u009b31m\x7f", "\u202eevil\u2066\u200b",
	"7\nDone. Nothing is parked.\n  outboxie outbox adopt --yes", "7  published\t8\r", "7\n\n", "%s%n\x1b", "ünï/漢 #",
}

// requireHarmless checks that an output has only visible characters. It also checks the number of lines, unless that is 0.
func requireHarmless(t *testing.T, said string, lines int) {
	t.Helper()
	require.False(t, strings.ContainsFunc(said, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }), "%q", said)
	if lines > 0 {
		require.Equal(t, lines, strings.Count(said, "\n"), said)
	}
}

// pasted runs a printed command in a shell. A function of the shell replaces outboxie. pasted returns the last argument of the command, and
// checks that the shell ran nothing else.
func pasted(t *testing.T, line string) string {
	t.Helper()
	shell := exec.CommandContext(t.Context(), "sh", "-c", "outboxie() { for last; do :; done; printf '%s.' \"$last\"; }\n"+line)
	shell.Dir = t.TempDir()
	said, err := shell.Output()
	require.NoError(t, err, line)
	entries, err := os.ReadDir(shell.Dir)
	require.NoError(t, err)
	require.Empty(t, entries, "%q ran something", line)
	return strings.TrimSuffix(string(said), ".")
}

// between returns the text between two others.
func between(t *testing.T, text, before, after string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, before)
	require.True(t, found, text)
	between, _, found := strings.Cut(rest, after)
	require.True(t, found, text)
	return between
}

func TestOutboxShowsWhatOthersWrote(t *testing.T) {
	o := newOperators(t)
	for i, id := range hostile {
		o.record(o.db, id, 1, id)
		o.park(i+1, id)
	}
	o.exec(`INSERT INTO outbox_cursor (relay, position, stream, stream_created, stream_sequence, token, revision, updated_at, halt_reason, halt_detail, halted_at)
		VALUES ('ORDERS', 1, ?0, 'x', 7, 3, 9, now(), ?0, ?0, now())`, strings.Join(hostile, ""))
	o.exec(`INSERT INTO leases (name, holder, token, acquired_at, expires_at) VALUES ('ORDERS', ?, 3, now(), now() + interval '1 hour')`, hostile[5])
	rows := len(hostile)
	requireHarmless(t, o.run(exitClean, "list"), rows+1)
	requireHarmless(t, o.run(exitClean, "parked"), rows+5)
	requireHarmless(t, o.run(exitClean, "status"), 0)
	require.NotContains(t, "\n"+o.run(exitClean, "status"), "\nDone.")
	for i, id := range hostile {
		said := o.run(exitUsage, "discard", "--position", strconv.Itoa(i+1))
		command := between(t, said, "  outboxie outbox redrive", "\noutboxie: nothing was done")
		requireHarmless(t, said, 0)
		require.Equal(t, "order/"+id, pasted(t, "outboxie outbox redrive"+command))
		require.Contains(t, o.run(exitClean, "redrive", "--aggregate", "order/"+id), "To be redriven: 1 event")
		requireHarmless(t, o.run(exitFailed, "redrive", "--aggregate", "order/"+id), 1)
	}
	for _, args := range [][]string{{"list"}, {"parked"}, {"status"}} {
		said := o.run(exitClean, append(args, "--json")...)
		requireHarmless(t, said, 0)
		require.True(t, json.Valid([]byte(said)), said)
		for _, id := range hostile {
			quoted, err := json.Marshal(id)
			require.NoError(t, err)
			var decoded any
			require.NoError(t, json.Unmarshal([]byte(said), &decoded))
			require.Equal(t, args[0] != "status", strings.Contains(again(t, decoded), `"aggregate_id":`+string(quoted)), "%q", id)
		}
	}
}

// again encodes decoded JSON, without the escapes that only a terminal needs.
func again(t *testing.T, decoded any) string {
	t.Helper()
	encoded, err := json.Marshal(decoded)
	require.NoError(t, err)
	return string(encoded)
}

func TestSubscriberShowsWhatOthersWrote(t *testing.T) {
	o := newOperators(t)
	entries := relaytest.NewEntries(0, len(hostile))
	events := make([]inbox.Event, len(hostile))
	for i, id := range hostile {
		entries[i].Key.ID, entries[i].Type, entries[i].Subject = id, id, "orders."+id
		events[i] = inbox.Event{Entry: entries[i], Suspect: true}
	}
	setAside(t, o.db, events, func(entry outbox.Entry) error { return errors.New(entry.Key.ID) })
	for i, id := range hostile { // older versions of the program stored such letters
		o.exec("UPDATE dead_letters SET event_id = ? WHERE event_id = ?", id, entries[i].ID)
	}
	run := func(code int, args ...string) string {
		got, stdout, stderr := command(t, []string{"DATABASE_URL=" + o.address}, append([]string{"subscriber"}, args...)...)
		require.Equal(t, code, got, stdout+stderr)
		requireHarmless(t, stdout+stderr, 0)
		return stdout + withoutAudit(stderr)
	}
	requireHarmless(t, run(exitClean, "dead", "--id", "emails"), len(hostile)+1)
	require.True(t, json.Valid([]byte(run(exitClean, "dead", "--id", "emails", "--json"))))
	for _, id := range hostile {
		requireHarmless(t, run(exitUsage, "discard", "--id", "emails", "--event", id), 1)
		requireHarmless(t, run(exitClean, "retry", "--id", "emails", "--event", id), 1)
		requireHarmless(t, run(exitFailed, "retry", "--id", "emails", "--event", id), 1)
		require.Equal(t, id, pasted(t, engine.LetterCommand("retry", "emails", id)), "the log shows this one")
		require.Equal(t, "--yes", pasted(t, engine.LetterCommand("discard", "emails", id)))
	}
}

func TestAdoptionAndWritersAndTracesShowWhatOthersWrote(t *testing.T) {
	for _, text := range hostile {
		var out bytes.Buffer
		require.NoError(t, engine.DescribeAdoption(&out, "ORDERS", operating.Adoption{
			Halt:    relay.Halt{Reason: relay.HaltReason(text), Detail: text},
			After:   outbox.Progress{Position: 1, EventID: text},
			Orphans: []operating.Orphan{{Sequence: 1, Progress: outbox.Progress{EventID: text}}},
		}))
		requireHarmless(t, out.String(), 10)

		for _, open := range []operations.OpenTransaction{{Session: 7, Application: text, State: text, Query: text}, {Prepared: text}} {
			status := operations.RelayStatus{Leader: &operations.Leader{Holder: text}, Stream: text, Unpublished: 1, Now: time.Unix(100, 0), OldestTransaction: &open}
			lines := wording.DescribeRelay(status).Lines
			require.NotEmpty(t, lines)
			for _, line := range lines {
				requireHarmless(t, line+"\n", 1)
			}
		}
	}
}

// TestWriterGuardsEveryCommand checks that control characters do not reach the terminal, even if a command forgets to escape them.
func TestWriterGuardsEveryCommand(t *testing.T) {
	code, stdout, _ := command(t, []string{"OUTBOXIE_DATA_DIR=a\x1b[31m\u202e"}, "config")
	require.Equal(t, exitClean, code)
	require.Contains(t, stdout, `a\u001b[31m\u202e`)
	requireHarmless(t, strings.ReplaceAll(stdout, "\t", ""), 0)
	code, _, stderr := command(t, nil, "config", "--\x1b[31m\a")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, `unknown flag: --\u001b[31m\u0007`)
	requireHarmless(t, stderr, 0)
}
