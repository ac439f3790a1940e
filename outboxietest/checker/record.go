package checker

import (
	"context"
	"database/sql"
	"iter"
)

// recordStatement creates tables that keep effects and dead letters, and triggers that fill them.
//
// An effect gets its number when its transaction commits, because the trigger is deferred. If transaction A commits before transaction B
// reads, the effects of A have the smaller numbers. So the numbers give the order of effects without a clock.
const recordStatement = `
CREATE TABLE checker_effects (number bigserial PRIMARY KEY, subscriber text NOT NULL, event_id uuid NOT NULL);
CREATE INDEX checker_effects_of ON checker_effects (subscriber, number);
CREATE TABLE checker_letters (subscriber text, event_id text, PRIMARY KEY (subscriber, event_id));
CREATE FUNCTION checker_effect() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO checker_effects (subscriber, event_id) SELECT subscriber, event_id FROM inbox
	WHERE subscriber = NEW.subscriber AND event_id = NEW.event_id AND applied_at IS NOT NULL;
	RETURN NULL;
END $$;
CREATE FUNCTION checker_letter() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO checker_letters VALUES (NEW.subscriber, NEW.event_id) ON CONFLICT DO NOTHING;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER checker_inserted AFTER INSERT ON inbox DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW WHEN (NEW.applied_at IS NOT NULL) EXECUTE FUNCTION checker_effect();
CREATE CONSTRAINT TRIGGER checker_updated AFTER UPDATE OF applied_at ON inbox DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW WHEN (OLD.applied_at IS NULL AND NEW.applied_at IS NOT NULL) EXECUTE FUNCTION checker_effect();
CREATE TRIGGER checker_inserted AFTER INSERT ON dead_letters FOR EACH ROW EXECUTE FUNCTION checker_letter()`

// Record makes the database keep effects and dead letters from now on, for ReadEffects and ReadLetters. Call Record once, before any
// subscriber starts.
func Record(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, recordStatement)
	return err
}

const (
	recordedEffectsStatement = `SELECT subscriber, event_id, position, aggregate_type || '/' || aggregate_id, aggregate_version
		FROM inbox LEFT JOIN checker_effects USING (subscriber, event_id)
		WHERE applied_at IS NOT NULL ORDER BY subscriber, number NULLS FIRST, position`
	recordedLettersStatement = `SELECT subscriber, event_id, coalesce(state, '')
		FROM checker_letters FULL JOIN dead_letters USING (subscriber, event_id)`
	lettersStatement = `SELECT subscriber, event_id, state FROM dead_letters`
)

// ReadLetters reads the dead letters that subscribers have or had. If Record was not called, it reads only those that they have.
func ReadLetters(ctx context.Context, db *sql.DB) iter.Seq2[Letter, error] {
	statement := lettersStatement
	if recorded, err := has(ctx, db, "checker_letters"); err != nil {
		return func(yield func(Letter, error) bool) { yield(Letter{}, err) }
	} else if recorded {
		statement = recordedLettersStatement
	}
	return Query(ctx, db, statement, func(rows *sql.Rows) (l Letter, err error) {
		return l, rows.Scan(&l.Subscriber, &l.ID, &l.State)
	})
}
