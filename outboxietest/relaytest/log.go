package relaytest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
)

// LogWriter is an open transaction. Append assigns positions; the rows are visible after Commit.
type LogWriter interface {
	relay.Appender
	Commit() error
	Rollback() // after Commit it does nothing
}

// LogHarness is an empty log, with the operations that the suite needs. At least 32 transactions may be open at once.
type LogHarness interface {
	Connection
	Log() relay.Log
	Begin(ctx context.Context) (LogWriter, error)
	Purge(t *testing.T, upTo outbox.Position) // removes rows as retention does, and sets PurgedTo
	// SetSequence sets the last assigned position, as a restore of the rows without the sequence does. 0: none was assigned.
	SetSequence(t *testing.T, position outbox.Position)
	LoseCommits(t *testing.T, after outbox.Position) // removes the rows after a position, like a failover that loses commits
	Spoil(t *testing.T, at outbox.Position)          // changes a row so that it can never be published, as a statement by hand can
	// SetHeaders replaces the headers of a row. Unlike Append, it accepts headers above outbox.MaxHeaders.
	SetHeaders(t *testing.T, at outbox.Position, headers map[string]string)
}

// Connection cuts the connections of the adapter under test, and restores them.
type Connection interface {
	Disconnect(t *testing.T)
	Reconnect(t *testing.T)
}

const (
	patience = 30 * time.Second       // longest wait for something that must happen
	soon     = 100 * time.Millisecond // how long the tests watch that something does not happen
)

var plenty = relay.ReadLimit{Count: 1000, Bytes: 1 << 20}

// TestLog runs the contract of relay.Log. Each call of open returns an empty log.
func TestLog(t *testing.T, open func(t *testing.T) LogHarness) {
	check := contracttest.Runner(t, open)
	check("an empty log has no entries", logEmpty)
	check("entries come back as they were appended", logContent)
	check("a page is limited, but never empty", logLimits)
	check("a rolled back row is skipped", logRollback)
	check("a read waits for an open transaction", logOpenWriter)
	check("rows before an open transaction come at once", logPrefix)
	check("uncommitted rows are not there", logUnseen)
	check("another row at the progress is lost history", logHistory)
	check("purged rows may be missing", logPurged)
	check("the wait ends with its context", logContext)
	check("a lost connection is an outage", logOutage)
	check("a lost connection ends the wait", logOutageWhileWaiting)
	check("a progress beyond the end is lost history", logBeyond)
	check("a row that cannot be published comes with the reason", logInvalid)
	check("a payload that no broker accepts is not read", logLarge)
	check("headers that no broker accepts are not read", logLargeHeaders)
	check("headers count in the limit of a read", logHeaderLimit)
	check("a reader follows 32 writers", logFollow)
}

func logEmpty(t *testing.T, h LogHarness) {
	page, err := h.Log().After(t.Context(), outbox.Progress{}, plenty)
	require.NoError(t, err)
	require.Empty(t, page.Entries)
	require.False(t, page.More)
}

func logContent(t *testing.T, h LogHarness) {
	first := NewMessage("a", 1)
	first.Payload = []byte("{ \"b\" : 1.50,\n\t\"a\":\"\\u00e9 é 'quoted' \\\\ ? ?0\", \"a\": [] }")
	first.Headers = map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "it's": `"?"`}
	second := NewMessage("b's", 7)
	second.Payload = []byte(`null`)
	before := time.Now().Add(-time.Minute)
	appendCommitted(t, h, first, second)

	entries := readAll(t, h)
	require.Len(t, entries, 2)
	require.Equal(t, first, entries[0].Message)
	require.Equal(t, second.Payload, entries[1].Payload)
	require.Equal(t, second.Key, entries[1].Key)
	require.Empty(t, entries[1].Headers)
	require.Less(t, entries[0].Position, entries[1].Position)
	require.Positive(t, entries[0].Position)
	require.WithinRange(t, entries[0].RecordedAt, before, time.Now().Add(time.Minute))

	rest, err := h.Log().After(t.Context(), entries[0].Progress(), plenty)
	require.NoError(t, err)
	require.Equal(t, ids(entries[1:]), ids(rest.Entries))
	require.False(t, rest.More)
}

func logLimits(t *testing.T, h LogHarness) {
	var messages []outbox.Message
	for version := range int64(10) {
		message := NewMessage("a", version+1)
		message.Payload = []byte(`"` + strings.Repeat("x", 98) + `"`)
		messages = append(messages, message)
	}
	appendCommitted(t, h, messages...)
	whole := readAll(t, h)

	for _, limited := range []struct {
		limit relay.ReadLimit
		want  int
	}{
		{relay.ReadLimit{Count: 3, Bytes: 1 << 20}, 3},
		{relay.ReadLimit{Count: 1, Bytes: 1 << 20}, 1},
		{relay.ReadLimit{Count: 1000, Bytes: 450}, 4},
		{relay.ReadLimit{Count: 1000, Bytes: 1}, 1},
		{relay.ReadLimit{Count: 1000, Bytes: 1000}, 9},
	} {
		page, err := h.Log().After(t.Context(), whole[0].Progress(), limited.limit)
		require.NoError(t, err)
		require.Equal(t, ids(whole[1:1+limited.want]), ids(page.Entries), "%+v", limited.limit)
		require.True(t, page.More || limited.want == 9, "%+v", limited.limit)
	}
}

func logRollback(t *testing.T, h LogHarness) {
	dead := begin(t, h)
	require.NoError(t, dead.Append(t.Context(), NewMessage("a", 1), NewMessage("a", 2)))
	kept := []outbox.Message{NewMessage("b", 1), NewMessage("b", 2)}
	appendCommitted(t, h, kept[0])
	dead.Rollback()
	appendCommitted(t, h, kept[1])
	require.Equal(t, []string{kept[0].ID, kept[1].ID}, ids(readAll(t, h)))
}

func logOpenWriter(t *testing.T, h LogHarness) {
	for _, end := range []string{"commit", "rollback"} {
		from := progress(t, h)
		early := begin(t, h)
		first := NewMessage("early "+end, 1)
		require.NoError(t, early.Append(t.Context(), first))
		second := NewMessage("late "+end, 1)
		appendCommitted(t, h, second)

		answer := readAsync(t.Context(), t, h, from)
		requireSilence(t, answer)
		want := []string{second.ID}
		if end == "commit" {
			want = []string{first.ID, second.ID}
			require.NoError(t, early.Commit())
		} else {
			early.Rollback()
		}
		read := await(t, answer)
		require.NoError(t, read.err)
		require.Equal(t, want, ids(read.page.Entries), end)
	}
}

func logPrefix(t *testing.T, h LogHarness) {
	first := NewMessage("a", 1)
	appendCommitted(t, h, first)
	open := begin(t, h)
	require.NoError(t, open.Append(t.Context(), NewMessage("b", 1)))
	appendCommitted(t, h, NewMessage("c", 1))

	page, err := h.Log().After(t.Context(), outbox.Progress{}, plenty)
	require.NoError(t, err)
	require.Equal(t, []string{first.ID}, ids(page.Entries))
	require.True(t, page.More, "the last event is there already, and its notification has come")
}

func logUnseen(t *testing.T, h LogHarness) {
	open := begin(t, h)
	require.NoError(t, open.Append(t.Context(), NewMessage("a", 1)))
	require.Empty(t, readAll(t, h))
}

func logHistory(t *testing.T, h LogHarness) {
	appendCommitted(t, h, NewMessage("a", 1), NewMessage("a", 2), NewMessage("a", 3))
	entries := readAll(t, h)

	other := outbox.Progress{Position: entries[1].Position, EventID: entries[0].ID}
	_, err := h.Log().After(t.Context(), other, plenty)
	require.ErrorIs(t, err, relay.ErrHistoryLost)
	require.ErrorContains(t, err, entries[0].ID, "the detail names the event")

	_, err = h.Log().After(t.Context(), outbox.Progress{Position: entries[1].Position}, plenty)
	require.ErrorIs(t, err, relay.ErrHistoryLost)

	h.LoseCommits(t, entries[0].Position)
	_, err = h.Log().After(t.Context(), entries[1].Progress(), plenty)
	require.ErrorIs(t, err, relay.ErrHistoryLost)
	_, err = h.Log().After(t.Context(), entries[0].Progress(), plenty)
	require.NoError(t, err)
}

func logBeyond(t *testing.T, h LogHarness) {
	_, err := h.Log().After(t.Context(), outbox.Progress{Position: 12, EventID: NewMessage("a", 1).ID}, plenty)
	require.ErrorIs(t, err, relay.ErrHistoryLost)
}

func logPurged(t *testing.T, h LogHarness) {
	appendCommitted(t, h, NewMessage("a", 1), NewMessage("a", 2), NewMessage("a", 3))
	entries := readAll(t, h)
	h.Purge(t, entries[1].Position)

	for _, from := range []outbox.Progress{{}, {Position: entries[1].Position}, entries[0].Progress()} {
		rest, err := h.Log().After(t.Context(), from, plenty)
		require.NoError(t, err)
		require.Equal(t, ids(entries[2:]), ids(rest.Entries))
	}
	rest, err := h.Log().After(t.Context(), entries[2].Progress(), plenty)
	require.NoError(t, err)
	require.Empty(t, rest.Entries)
}

func logContext(t *testing.T, h LogHarness) {
	ended, end := context.WithCancel(t.Context())
	end()
	_, err := h.Log().After(ended, outbox.Progress{}, plenty)
	require.ErrorIs(t, err, context.Canceled)

	early := begin(t, h)
	require.NoError(t, early.Append(t.Context(), NewMessage("a", 1)))
	appendCommitted(t, h, NewMessage("b", 1))
	waiting, stop := context.WithCancel(t.Context())
	answer := readAsync(waiting, t, h, outbox.Progress{})
	requireSilence(t, answer)
	stop()
	require.ErrorIs(t, await(t, answer).err, context.Canceled)

	timed, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = h.Log().After(timed, outbox.Progress{}, plenty)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func logOutage(t *testing.T, h LogHarness) {
	message := NewMessage("a", 1)
	appendCommitted(t, h, message)
	h.Disconnect(t)
	_, err := h.Log().After(t.Context(), outbox.Progress{}, plenty)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	h.Reconnect(t)
	require.Equal(t, []string{message.ID}, ids(readAll(t, h)))
}

func logOutageWhileWaiting(t *testing.T, h LogHarness) {
	early := begin(t, h)
	require.NoError(t, early.Append(t.Context(), NewMessage("a", 1)))
	message := NewMessage("b", 1)
	appendCommitted(t, h, message)
	answer := readAsync(t.Context(), t, h, outbox.Progress{})
	requireSilence(t, answer)
	h.Disconnect(t)
	read := await(t, answer)
	require.Equal(t, fault.Unavailable, fault.KindOf(read.err), "%v", read.err)
	h.Reconnect(t)
	early.Rollback()
	require.Equal(t, []string{message.ID}, ids(readAll(t, h)))
}

type read struct {
	page relay.Page
	err  error
}

func readAsync(ctx context.Context, t *testing.T, h LogHarness, from outbox.Progress) <-chan read {
	t.Helper()
	answer := make(chan read, 1)
	go func() {
		page, err := h.Log().After(ctx, from, plenty)
		answer <- read{page, err}
	}()
	return answer
}

func requireSilence(t *testing.T, answer <-chan read) {
	t.Helper()
	select {
	case read := <-answer:
		require.FailNow(t, "After did not wait", "%d entries, error %v", len(read.page.Entries), read.err)
	case <-time.After(soon):
	}
}

func await(t *testing.T, answer <-chan read) read {
	t.Helper()
	select {
	case read := <-answer:
		return read
	case <-time.After(patience):
		require.FailNow(t, "After still waits")
		return read{}
	}
}

func begin(t *testing.T, h LogHarness) LogWriter {
	t.Helper()
	writer, err := h.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(writer.Rollback)
	return writer
}

func appendCommitted(t *testing.T, h LogHarness, messages ...outbox.Message) {
	t.Helper()
	writer := begin(t, h)
	require.NoError(t, writer.Append(t.Context(), messages...))
	require.NoError(t, writer.Commit())
}

// readAll reads the whole log. No transaction may be open that would block the read.
func readAll(t *testing.T, h LogHarness) []outbox.Entry {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all []outbox.Entry
	var from outbox.Progress
	for {
		page, err := h.Log().After(ctx, from, plenty)
		require.NoError(t, err)
		if len(page.Entries) == 0 {
			return all
		}
		all = append(all, page.Entries...)
		from = all[len(all)-1].Progress()
	}
}

func progress(t *testing.T, h LogHarness) outbox.Progress {
	t.Helper()
	if all := readAll(t, h); len(all) > 0 {
		return all[len(all)-1].Progress()
	}
	return outbox.Progress{}
}

func ids(entries []outbox.Entry) []string {
	var ids []string
	for _, entry := range entries {
		ids = append(ids, entry.ID)
	}
	return ids
}
