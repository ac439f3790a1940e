package main

import (
	"os/user"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// withoutAudit returns the output of a command without the lines of the audit. auditOf returns these lines.
func withoutAudit(output string) string {
	var kept strings.Builder
	for line := range strings.Lines(output) {
		if !strings.Contains(line, "msg=audit") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

func auditOf(output string) []string {
	var lines []string
	for line := range strings.Lines(output) {
		if _, about, found := strings.Cut(line, "msg=audit "); found {
			lines = append(lines, strings.TrimSpace(about))
		}
	}
	return lines
}

// TestCommandsOfOperatorsAreAudited checks that a command that changed something names its user on standard error, and that a command that
// changed nothing does not.
func TestCommandsOfOperatorsAreAudited(t *testing.T) {
	o := newOperators(t)
	o.five()
	o.exec(`INSERT INTO outbox_parked (position, event_id, aggregate_type, aggregate_id, event_type, reason, state)
		SELECT position, event_id, aggregate_type, aggregate_id, event_type, 'test', 'parked' FROM outbox WHERE position = 2`)
	me, err := user.Current()
	require.NoError(t, err)
	run := func(want int, args ...string) []string {
		code, stdout, stderr := command(t, []string{"DATABASE_URL=" + o.address}, args...)
		require.Equal(t, want, code, stdout+stderr)
		require.NotContains(t, stdout, "audit")
		return auditOf(stderr)
	}
	require.Empty(t, run(exitClean, "outbox", "parked"))
	require.Empty(t, run(exitUsage, "outbox", "discard", "--position", "2"), "it only showed what it would do")
	require.Equal(t, []string{
		`action="outboxie outbox discard" arguments="--position=2 --yes=true" actor_type=user actor=` + me.Username,
	}, run(exitClean, "outbox", "discard", "--position", "2", "--yes"))
}
