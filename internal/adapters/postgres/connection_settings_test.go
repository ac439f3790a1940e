package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// oddest has unusual values for settings that are texts, and for numbers whose extreme values only slow everything down. An
// empty value means that makeOdd skips the setting: a value would block every session, or another test covers the setting.
var oddest = map[string]string{
	"DateStyle": "German, DMY", "TimeZone": "Asia/Kathmandu", "client_encoding": "LATIN1", "timezone_abbreviations": "Australia",
	"IntervalStyle": "iso_8601", "bytea_output": "escape", "extra_float_digits": "-15", "search_path": `"$user", public, pg_catalog`,
	"default_text_search_config": "pg_catalog.german", "lc_messages": "C", "lc_monetary": "C", "lc_numeric": "C", "lc_time": "C",
	"default_tablespace": "pg_default", "temp_tablespaces": "pg_default", "default_table_access_method": "heap",
	"default_transaction_isolation": "serializable", "synchronous_commit": "remote_apply", "client_min_messages": "debug5",
	"createrole_self_grant": "set, inherit", "restrict_nonsystem_relation_kind": "foreign-table",
	"statement_timeout": "1", "lock_timeout": "1", "idle_in_transaction_session_timeout": "1",
	"idle_session_timeout": "60000", "transaction_timeout": "60000", // a session's first statement runs under them
	"event_triggers": "off",
	"geqo_seed":      "1",

	"default_transaction_read_only": "", // TestReadOnlySessionsAreLeft
	"session_replication_role":      "", // TestCheckRefusesSettings
	"dynamic_library_path":          "", "local_preload_libraries": "", "session_preload_libraries": "", "extension_control_path": "",
	"transaction_isolation": "", "transaction_read_only": "", "transaction_deferrable": "", // of one transaction
	"vacuum_failsafe_age": "", "vacuum_multixact_failsafe_age": "",
}

// bounded are the settings that end statements and sessions. Behind a pooler, the program cannot override them.
var bounded = map[string]bool{
	"statement_timeout": true, "lock_timeout": true, "idle_in_transaction_session_timeout": true, "idle_session_timeout": true,
	"transaction_timeout": true,
}

// makeOdd gives every setting an unusual value in new sessions of the database.
func makeOdd(t *testing.T, admin *bun.DB, database string, leave map[string]bool) {
	t.Helper()
	var settings []struct{ Name, Vartype, Boot, Least, Most, Enum string }
	require.NoError(t, admin.NewRaw(`SELECT name, vartype, coalesce(boot_val, '') AS boot, coalesce(min_val, '') AS least,
			coalesce(max_val, '') AS most, coalesce(array_to_string(enumvals, ','), '') AS enum
		FROM pg_settings WHERE context IN ('user', 'superuser') AND (category LIKE 'Client Connection Defaults%'
			OR category LIKE 'Version and Platform Compatibility%' OR category LIKE 'Query Tuning%')`).Scan(t.Context(), &settings))
	require.Greater(t, len(settings), 60)
	var all strings.Builder
	for _, s := range settings {
		value, known := oddest[s.Name]
		switch {
		case leave[s.Name] || known && value == "":
			continue
		case known:
		case s.Vartype == "bool":
			value = map[string]string{"on": "off", "off": "on"}[s.Boot]
		case s.Vartype == "enum":
			for _, other := range strings.Split(s.Enum, ",") {
				if other != s.Boot {
					value = other
				}
			}
		case s.Vartype == "integer" || s.Vartype == "real":
			value = s.Least
			if s.Least == s.Boot {
				value = s.Most
			}
		default:
			require.Fail(t, "decide about the setting "+s.Name)
		}
		if s.Name != "search_path" && s.Name != "DateStyle" && s.Name != "temp_tablespaces" {
			value = "'" + strings.ReplaceAll(value, "'", "''") + "'"
		}
		fmt.Fprintf(&all, "ALTER DATABASE %q SET %s = %s;", database, s.Name, value)
	}
	_, err := admin.ExecContext(t.Context(), all.String())
	require.NoError(t, err)
}

// TestEverySettingAtItsOddest checks that the main path works on an empty database in which each Postgres setting for formats
// and behavior has an unusual value. It checks the same behind a pooler, where the program can set less.
func TestEverySettingAtItsOddest(t *testing.T) {
	t.Run("direct", func(t *testing.T) {
		url := emptyDatabase(t)
		server, name := split(t, url)
		admin := open(t, postgres.Options{URL: server})
		makeOdd(t, admin, name, nil)
		db := open(t, postgres.Options{URL: url})
		requireOdd(t, db, map[string]string{"enable_seqscan": "off", "bytea_output": "hex", "DateStyle": "ISO, MDY", "idle_session_timeout": "0"})
		mainPath(t, db)
	})
	t.Run("behind a pooler", func(t *testing.T) {
		url := emptyDatabase(t)
		server, name := split(t, url)
		admin := open(t, postgres.Options{URL: server})
		makeOdd(t, admin, name, bounded)
		db, err := postgres.OpenBehindPooler(postgres.Options{URL: url})
		require.NoError(t, err)
		defer db.Close()
		requireOdd(t, db, map[string]string{"enable_seqscan": "off", "bytea_output": "escape", "DateStyle": "ISO, MDY"})
		mainPath(t, db)
	})
}

func requireOdd(t *testing.T, db *bun.DB, want map[string]string) {
	t.Helper()
	for name, value := range want {
		var is string
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT current_setting(?)", name).Scan(&is))
		require.Equal(t, value, is, name)
	}
}

// mainPath runs each kind of work once: migrations, an order, the log, a relay's lease and cursor, a subscriber with a dead
// letter, and the queries of operators.
func mainPath(t *testing.T, db *bun.DB) {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, postgres.MigrateUp(ctx, db, quiet))
	steps, err := postgres.MigrateStatus(ctx, db, quiet)
	require.NoError(t, err)
	require.True(t, steps[0].Applied)
	log := postgres.NewLog(db, relayName, quiet)
	require.NoError(t, log.Check(ctx))

	o, work := newOrder(t), postgres.NewUnitOfWork(db)
	id := o.Snapshot().ID
	require.NoError(t, work.Do(ctx, func(ctx context.Context, tx orders.Tx) error {
		claim, err := tx.Keys.Claim(ctx, newClaim("k"))
		require.Equal(t, newClaim("k").Digest, claim.Digest)
		return errors.Join(err, save(ctx, tx, o))
	}))
	require.NoError(t, work.Do(ctx, func(ctx context.Context, tx orders.Tx) error {
		found, err := tx.Orders.Get(ctx, id)
		require.NoError(t, err)
		require.Equal(t, o.Snapshot().Amount, found.Snapshot().Amount)
		require.WithinDuration(t, o.Snapshot().CreatedAt, found.Snapshot().CreatedAt, time.Millisecond)
		return nil
	}))

	elector := postgres.NewElector(db, relayName, "me", leaseTTL)
	term, err := elector.Acquire(ctx, 0)
	require.NoError(t, err)
	term, err = elector.Renew(ctx, term)
	require.NoError(t, err)
	page, err := log.After(ctx, outbox.Progress{}, relay.ReadLimit{Count: 100, Bytes: 1 << 20})
	require.NoError(t, err)
	require.Len(t, page.Entries, 1)
	entry := page.Entries[0]
	require.Empty(t, entry.Invalid)
	require.WithinDuration(t, time.Now(), entry.RecordedAt, time.Minute)
	cursors := postgres.NewCursorStore(db, relayName, "STREAM")
	cursor, err := cursors.Save(ctx, relay.WriteFence{Token: term.Token}, relay.Cursor{Progress: outbox.Progress{Position: entry.Position, EventID: entry.ID}})
	require.NoError(t, err)
	loaded, err := cursors.Load(ctx)
	require.NoError(t, err)
	require.Equal(t, cursor.Progress, loaded.Progress)
	require.WithinDuration(t, entry.RecordedAt, cursor.RecordedTo, time.Millisecond)
	require.NoError(t, elector.Resign(ctx, term))

	subscriberPath(t, newInbox(db), entry)
	admin := postgres.NewRelayAdmin(db, relayName, "STREAM")
	_, err = admin.Status(ctx)
	require.NoError(t, err)
	_, err = admin.Measure(ctx, 0)
	require.NoError(t, err)
	listed, err := admin.List(ctx, operations.EventFilter{Limit: 10})
	require.NoError(t, err)
	require.Len(t, listed, 1)
}

// subscriberPath applies an event, and sets aside another one, whose payload no text format prints unchanged. Then it retries
// that event, which is applied.
func subscriberPath(t *testing.T, in *postgres.Inbox, entry outbox.Entry) {
	t.Helper()
	ctx := t.Context()
	odd := entry
	odd.ID, odd.Payload = "7f2c2b4e-8f0f-4c3f-9d55-0a8f2d1e9c11", []byte("\x00\x7f\xff\\'{\"é\"}")
	odd.Key.ID, odd.Position = "other", entry.Position+1
	require.NoError(t, in.CreateLanes(ctx, "emails", 1, "S", inbox.StreamPosition{}))
	view, err := in.Heartbeat(ctx, "emails", "me")
	require.NoError(t, err)
	require.Len(t, view.Lanes, 1)
	fails := handlerFunc(func(_ context.Context, _ inbox.Tx, event outbox.Entry) error {
		if event.ID == odd.ID {
			return errors.New("it's \\ broken")
		}
		return nil
	})
	outcome, err := in.Apply(ctx, "emails", inbox.Batch{From: view.Lanes[0], To: inbox.StreamPosition{Sequence: 2, StoredAt: time.Now()}, Events: []inbox.Event{
		{Entry: entry, Sequence: 1}, {Entry: odd, Sequence: 2, Suspect: true},
	}}, fails, giveUp)
	require.NoError(t, err)
	require.Equal(t, []inbox.Result{inbox.Applied, inbox.SetAside}, outcome.Results)
	letters, err := in.Letters(ctx, "emails", 10)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.Equal(t, inbox.Dead, letters[0].State)
	whole, err := in.Letter(ctx, "emails", letters[0].ID)
	require.NoError(t, err)
	require.Equal(t, odd.Payload, whole.Payload)
	require.Equal(t, "it's \\ broken", letters[0].Error)
	require.WithinDuration(t, entry.RecordedAt, letters[0].RecordedAt, time.Millisecond)
	require.NoError(t, in.Retry(ctx, "emails", odd.ID))
	done, found, err := in.Redeliver(ctx, "emails", inbox.Redelivery{Limit: 10, Savepoints: true}, ignore, giveUp)
	require.NoError(t, err)
	require.True(t, found)
	require.Len(t, done.Applied, 1)
	require.Equal(t, odd.Payload, done.Applied[0].Payload)
	names, err := in.Subscribers(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"emails"}, names)
	_, why, err := in.Candidates(ctx, "emails", "S", time.Hour, 10)
	require.NoError(t, err)
	require.NotEmpty(t, why)
	forgotten, err := in.Sweep(ctx, "emails", "S", []string{entry.ID, odd.ID}, 3, 2)
	require.NoError(t, err)
	require.Equal(t, 2, forgotten)
}

// TestSettingsOfTheURL checks that DATABASE_URL may set what the program does not depend on, and that Open refuses all other
// settings.
func TestSettingsOfTheURL(t *testing.T) {
	url := infra.Database(t)
	show := func(db *bun.DB, name string) (value string) {
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT current_setting(?)", name).Scan(&value))
		return value
	}
	exec(t, open(t, postgres.Options{URL: url}), "CREATE SCHEMA shop")
	db := open(t, postgres.Options{URL: url + "&options=-csearch_path%3Dshop,public%20--statement-timeout%3D7s&lock_timeout=3s&TimeZone=utc"})
	require.Equal(t, "shop,public, pg_temp", show(db, "search_path"))
	require.Equal(t, "7s", show(db, "statement_timeout"))
	require.Equal(t, "3s", show(db, "lock_timeout"))
	require.Equal(t, "UTC", show(db, "TimeZone"))
	require.Equal(t, "0", show(db, "idle_in_transaction_session_timeout"))
	for option, want := range map[string]string{
		"datestyle=German":                  "datestyle",
		"options=-cbytea_output%3Descape":   "bytea_output",
		"default_transaction_isolation=x":   "default_transaction_isolation",
		"options=-B%2010":                   "-c name=value",
		"target_session_attrs=standby":      "primary",
		"target_session_attrs=read-only":    "primary",
		"target_session_attrs=nonsense":     "target_session_attrs",
		"target%5Fsession_attrs=standby":    "primary",
		"target_session_attrs=%73tandby":    "primary",
		"default_transaction_read_only=on":  "nothing could be written",
		"replication=database":              "replication",
		"options=-csearch_path":             "-c name=value",
		"options=--TimeZone%3DEurope/Paris": "timezone",
	} {
		_, err := postgres.Open(postgres.Options{URL: url + "&" + option})
		require.ErrorIs(t, err, postgres.ErrURL, option)
		require.ErrorContains(t, err, want, option)
	}
}

// TestKeywordsAreReadLikeAURL checks that an address in keyword form (host=... dbname=...) is read like a URL. A standby is
// refused in both.
func TestKeywordsAreReadLikeAURL(t *testing.T) {
	for _, wanted := range []string{"standby", "'prefer-standby'", "read-only"} {
		_, err := postgres.Open(postgres.Options{URL: "host=127.0.0.1 dbname=db user=u target_session_attrs = " + wanted})
		require.ErrorContains(t, err, "the program needs the primary", wanted)
	}
	open(t, postgres.Options{URL: "host=127.0.0.1 dbname=db user=u target_session_attrs=read-write default_transaction_read_only=off"})
}

func TestReadOptions(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"":                                {},
		" -c a=1  -cb=2 --c-d=3 ":         {"a": "1", "b": "2", "c_d": "3"},
		`-c search_path=a,\ b -c X=\\y=z`: {"search_path": "a, b", "x": `\y=z`},
	} {
		found, err := postgres.ReadOptions(text)
		require.NoError(t, err)
		require.Equal(t, want, found, text)
	}
	for _, text := range []string{"-c", "-c a", "a=1", "-d 5", "--a"} {
		_, err := postgres.ReadOptions(text)
		require.ErrorIs(t, err, postgres.ErrURL, text)
	}
}

// TestTemporaryTablesShadowNothing checks that a temporary table named outbox in the program's own session does not hide the
// real outbox.
func TestTemporaryTablesShadowNothing(t *testing.T) {
	db := open(t, postgres.Options{URL: infra.Database(t), MaxOpenConns: 1})
	exec(t, db, "CREATE TEMP TABLE outbox (LIKE outbox)")
	require.NoError(t, postgres.NewUnitOfWork(db).Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		return save(ctx, tx, newOrder(t))
	}))
	var rows int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM public.outbox").Scan(&rows))
	require.Equal(t, 1, rows)
}

// TestSessionsCommitDurably checks that the program's sessions keep synchronous_commit on if the database's default is off.
// Check still refuses such a database, because other programs write the outbox, too.
func TestSessionsCommitDurably(t *testing.T) {
	h := newHarness(t)
	for _, c := range []struct{ set, is string }{{"off", "on"}, {"remote_write", "remote_write"}} {
		exec(t, h.admin, "ALTER DATABASE ? SET synchronous_commit = ?", bun.Ident(h.name), c.set)
		requireOdd(t, open(t, postgres.Options{URL: h.address}), map[string]string{"synchronous_commit": c.is})
	}
	exec(t, h.admin, "ALTER DATABASE ? SET synchronous_commit = off", bun.Ident(h.name))
	require.ErrorContains(t, postgres.NewLog(open(t, postgres.Options{URL: h.address}), relayName, quiet).Check(t.Context()), "synchronous_commit is off")
}

// TestCheckRefusesSettings checks that Check refuses a database in which no trigger fires: triggers keep outbox rows unchanged.
// It also checks that a connection with an empty search_path is refused.
func TestCheckRefusesSettings(t *testing.T) {
	h := newHarness(t)
	exec(t, h.admin, "ALTER DATABASE ? SET session_replication_role = replica", bun.Ident(h.name))
	err := postgres.NewLog(open(t, postgres.Options{URL: h.address}), relayName, quiet).Check(t.Context())
	require.ErrorIs(t, err, postgres.ErrUnsafe)
	require.ErrorContains(t, err, "session_replication_role")
	require.NoError(t, open(t, postgres.Options{URL: h.address}).PingContext(t.Context()))

	exec(t, h.admin, "ALTER DATABASE ? SET search_path = ''", bun.Ident(h.name))
	err = open(t, postgres.Options{URL: h.address}).PingContext(t.Context())
	require.ErrorIs(t, err, postgres.ErrSearchPath)
	require.NoError(t, open(t, postgres.Options{URL: h.address + "&search_path=public"}).PingContext(t.Context()), "the cure")
}

// TestEncodingsAreRefused checks that only UTF8 is accepted as encoding. Other encodings cannot store every payload, or do not
// check it.
func TestEncodingsAreRefused(t *testing.T) {
	url := infra.Database(t)
	server, name := split(t, url)
	admin := open(t, postgres.Options{URL: server})
	for _, encoding := range []string{"SQL_ASCII", "LATIN1", "EUC_JP"} {
		exec(t, admin, "DROP DATABASE ?", bun.Ident(name))
		exec(t, admin, "CREATE DATABASE ? ENCODING ? TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'", bun.Ident(name), encoding)
		err := postgres.MigrateUp(t.Context(), open(t, postgres.Options{URL: url}), quiet)
		require.ErrorIs(t, err, postgres.ErrEncoding)
		require.Equal(t, fault.Invalid, fault.KindOf(err))
		require.ErrorContains(t, err, encoding)
		require.ErrorContains(t, err, "--encoding=UTF8 --template=template0")
	}
}

// TestTheMigrationLockIsNotWaitedForWithoutReason checks that a migration fails at once if the row of the migration lock cannot
// be read.
func TestTheMigrationLockIsNotWaitedForWithoutReason(t *testing.T) {
	db := open(t, postgres.Options{URL: emptyDatabase(t)})
	require.NoError(t, postgres.MigrateUp(t.Context(), db, quiet))
	downTo(t, db, 11)
	exec(t, db, `CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.lease_expires_at = 'infinity'; RETURN NEW; END $$;
		CREATE TRIGGER spoil BEFORE UPDATE ON outboxie_engine_migration_lock FOR EACH ROW EXECUTE FUNCTION spoil()`)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := postgres.MigrateUp(ctx, db, quiet)
	require.ErrorContains(t, err, "lease_expires_at")
	require.NoError(t, ctx.Err(), "it does not wait")
}
