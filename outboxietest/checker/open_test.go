package checker_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.Main(m) }

// leaveBehind writes the log and the stream of a small run to real servers, and returns their addresses.
func leaveBehind(t *testing.T) checker.Source {
	t.Helper()
	source := checker.Source{DatabaseURL: infra.Database(t), NATSURL: infra.Broker(t), Stream: "THINGS"}
	db, err := sql.Open("pgx", source.DatabaseURL)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	nc, err := nats.Connect(source.NATSURL)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: source.Stream, Subjects: []string{"things.>"}})
	require.NoError(t, err)
	for _, e := range []checker.Event{event(1, 1, 1), event(2, 2, 1), event(3, 2, 2)} {
		_, key, _ := strings.Cut(e.Aggregate, "/")
		_, err := db.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
			VALUES ($1, 'thing', $2, $3, $4, $5, $6)`, e.ID.String(), key, e.Version, e.Type, e.Subject, string(e.Payload))
		require.NoError(t, err)
		message := nats.NewMsg(e.Subject)
		message.Data = e.Payload
		for name, value := range map[string]string{
			"ce-id": e.ID.String(), "ce-type": e.Type, "ce-subject": key, "Outbox-Aggregate-Type": "thing",
			"Outbox-Aggregate-Version": fmt.Sprint(e.Version), "Outbox-Position": fmt.Sprint(e.Position),
		} {
			message.Header.Set(name, value)
		}
		_, err = js.PublishMsg(t.Context(), message)
		require.NoError(t, err)
	}
	return source
}

// TestOpenReadsWhatARunLeaves checks that a history can be read from the addresses of a database and a broker alone, with dead letters and
// effects that are recorded, and that what is missing there is found.
func TestOpenReadsWhatARunLeaves(t *testing.T) {
	source := leaveBehind(t)
	results, err := checker.Open(t.Context(), source)
	require.NoError(t, err)
	defer func() { require.NoError(t, results.Close()) }()
	verify := func() checker.Verdict {
		h := results.History(t.Context())
		h.Subscribers = []string{subscriber}
		h.Ledger.Acknowledged(aggregate(2), 2)
		h.Ledger.Poisoned(id(2))
		verdict, err := checker.Verify(h)
		require.NoError(t, err)
		return verdict
	}
	require.Equal(t, []checker.Check{checker.Effects}, verify().Failed(), "nothing has taken effect")

	require.NoError(t, results.Record(t.Context()))
	_, err = results.DB.Exec(`INSERT INTO inbox (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position)
		SELECT $1, event_id, aggregate_type, aggregate_id, aggregate_version, position FROM outbox WHERE position = 1`, subscriber)
	require.NoError(t, err)
	_, err = results.DB.Exec(`INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, subject, headers, payload)
		SELECT $1, event_id, 'dead', 'broken', 1, subject, '{}', '' FROM outbox WHERE position > 1`, subscriber)
	require.NoError(t, err)
	verdict := verify()
	require.Empty(t, verdict.Failed(), "%s", verdict)
	require.Equal(t, 3, verdict.Result(checker.Duplicates).Of)

	_, err = results.DB.Exec(`DELETE FROM outbox WHERE position = 3`)
	require.NoError(t, err)
	require.Equal(t, []checker.Check{checker.Loss, checker.Ghosts}, verify().Failed())
}

// TestOpenNamesWhatItCannotReach checks that Open says which address is wrong.
func TestOpenNamesWhatItCannotReach(t *testing.T) {
	source := leaveBehind(t)
	for want, wrong := range map[string]checker.Source{
		"reach the database": {DatabaseURL: "postgres://127.0.0.1:1/x", NATSURL: source.NATSURL, Stream: source.Stream},
		"reach the broker":   {DatabaseURL: source.DatabaseURL, NATSURL: "nats://127.0.0.1:1", Stream: source.Stream},
		"find the stream X":  {DatabaseURL: source.DatabaseURL, NATSURL: source.NATSURL, Stream: "X"},
	} {
		_, err := checker.Open(t.Context(), wrong)
		require.ErrorContains(t, err, want)
	}
}
