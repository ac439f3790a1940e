package postgres

import (
	"context"

	"github.com/google/uuid"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// isUUID reports whether inbox can have a row for this id.
func isUUID(id string) bool { return len(id) == 36 && uuid.Validate(id) == nil }

// inInbox reports whether an event of the batch gets a row in inbox.
func inInbox(event inbox.Event) bool { return event.Unreadable == nil && isUUID(event.ID) }

// recordRows are the events of a batch that get a row in inbox, each id once. Each field is a column.
type recordRows struct {
	index      []int // in the batch
	ids        []string
	letters    []string // ids of the letters that the events have or may get
	types      []string
	aggregates []string
	versions   []int64
	positions  []int64
	sequences  []int64

	known map[string]int // by id: its index in the columns
}

// rows chooses the first event of each id. If an id comes several times, the row gets the sequence of the last message, because a row of
// inbox keeps the sequence at which its event was read last.
func (a *application) rows() recordRows {
	r := recordRows{known: make(map[string]int, len(a.batch.Events))}
	for i, event := range a.batch.Events {
		if !inInbox(event) {
			continue
		}
		id := uuid.MustParse(event.ID).String()
		if at, found := r.known[id]; found {
			r.sequences[at] = int64(event.Sequence)
			continue
		}
		r.known[id] = len(r.ids)
		r.index = append(r.index, i)
		r.ids = append(r.ids, id)
		r.letters = append(r.letters, letterID(event.ID))
		r.types = append(r.types, text(event.Key.Type))
		r.aggregates = append(r.aggregates, text(event.Key.ID))
		r.versions = append(r.versions, event.Version)
		r.positions = append(r.positions, int64(event.Position))
		r.sequences = append(r.sequences, int64(event.Sequence))
	}
	return r
}

// inboxColumns are the columns of a new row. The new row says that its event was applied. If the event is not applied in the end, the
// transaction corrects the row before the commit. The transaction that inserts an event's row also handles the event.
const inboxColumns = "subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position, sequence"

// recordStatement records the events of a batch. Their failing letters must be locked before.
const recordStatement = `
INSERT INTO inbox (` + inboxColumns + `)
SELECT ?0, id::uuid, type, aggregate, version, position, sequence
FROM unnest(?1::text[], ?2::text[], ?3::text[], ?4::bigint[], ?5::bigint[], ?6::bigint[]) WITH ORDINALITY
	AS event (id, type, aggregate, version, position, sequence, number)
ORDER BY number ON CONFLICT DO NOTHING RETURNING event_id`

// one returns the columns of a single event. Postgres plans and runs a statement for one event faster.
func (r recordRows) one() []any {
	return []any{r.ids[0], r.types[0], r.aggregates[0], r.versions[0], r.positions[0], r.sequences[0]}
}

// all returns the columns of all events.
func (r recordRows) all() []any {
	return []any{
		pgdialect.Array(r.ids), pgdialect.Array(r.types), pgdialect.Array(r.aggregates),
		pgdialect.Array(r.versions), pgdialect.Array(r.positions), pgdialect.Array(r.sequences),
	}
}

// record inserts a row for each event, if take has not done so. For events that had a row before, it calls recognize.
func (a *application) record(ctx context.Context, r recordRows) error {
	if a.anyLetters && len(r.ids) > 0 {
		inserted, err := a.ids(ctx, recordStatement, append([]any{a.subscriber}, r.all()...)...)
		if err != nil {
			return err
		}
		a.recorded = len(inserted)
		a.refresh(r, inserted)
	}
	if a.recorded == len(r.ids) {
		return nil
	}
	return a.recognize(ctx, r)
}

// refresh marks the events with these ids as fresh.
func (a *application) refresh(r recordRows, ids []string) {
	for _, id := range ids {
		a.fresh[r.index[r.known[id]]] = true
	}
}

const (
	// orphansStatement looks at rows that were in inbox before. If such a row says that its event was not applied, the event should have a
	// letter. An event without a letter is orphaned. A failing letter does not count, because it says that the event comes again.
	orphansStatement = `
SELECT i.event_id, i.applied_at IS NULL AND NOT EXISTS (
	SELECT FROM dead_letters AS l WHERE l.subscriber = ?0 AND l.event_id = k.letter AND l.state <> 'failing')
FROM unnest(?1::text[], ?2::text[]) AS k (id, letter) JOIN inbox AS i ON i.subscriber = ?0 AND i.event_id = k.id::uuid`

	resumeStatement = `
UPDATE inbox SET applied_at = clock_timestamp() WHERE subscriber = ?0 AND event_id = ANY (?1::uuid[]) AND applied_at IS NULL RETURNING event_id`

	updateSequencesStatement = `
UPDATE inbox AS i SET sequence = k.sequence FROM unnest(?1::text[], ?2::bigint[]) AS k (id, sequence)
WHERE i.subscriber = ?0 AND i.event_id = k.id::uuid AND i.sequence IS DISTINCT FROM k.sequence`
)

// recognize finds the orphaned events among those that were recorded before. An orphaned event takes effect now. This program never leaves
// an orphan. An operator makes one by deleting a letter with SQL, so that the letter's event comes again. Programs of earlier versions made
// one when they swept a discarded letter whose id has capital letters.
//
// A program of an earlier version may have set an event aside since the lane was taken, because it does so without the lane. So there may
// be letters now.
func (a *application) recognize(ctx context.Context, r recordRows) error {
	a.anyLetters = true
	var letters []string
	for at, index := range r.index {
		if !a.fresh[index] {
			letters = append(letters, r.letters[at])
			a.recordedBefore.ids = append(a.recordedBefore.ids, r.ids[at])
			a.recordedBefore.sequences = append(a.recordedBefore.sequences, r.sequences[at])
		}
	}
	orphans, err := a.orphans(ctx, a.recordedBefore.ids, letters)
	if err != nil || len(orphans) == 0 {
		return err
	}
	resumed, err := a.ids(ctx, resumeStatement, a.subscriber, pgdialect.Array(orphans))
	a.refresh(r, resumed)
	return err
}

// updateSequences updates the sequences of the events that were recorded before: each row keeps the sequence at which its event was read
// last. updateSequences runs after the effects. Redeliveries, too, change rows of totals before they change existing rows of inbox. So lanes
// and redeliveries do not wait for each other.
func (a *application) updateSequences(ctx context.Context) error {
	if len(a.recordedBefore.ids) == 0 {
		return nil
	}
	return a.exec(ctx, updateSequencesStatement, a.subscriber, pgdialect.Array(a.recordedBefore.ids), pgdialect.Array(a.recordedBefore.sequences))
}

// orphans returns the events that were not applied and have no letter. It reads both in one snapshot, because a letter ends in the same
// transaction in which its effect happens.
func (a *application) orphans(ctx context.Context, ids, letters []string) (orphans []string, err error) {
	rows, err := a.tx.QueryContext(ctx, orphansStatement, a.subscriber, pgdialect.Array(ids), pgdialect.Array(letters))
	if err != nil {
		return nil, classify(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id string
		var orphaned bool
		if err := rows.Scan(&id, &orphaned); err != nil {
			return nil, classify(ctx, err)
		}
		if orphaned {
			orphans = append(orphans, id)
		}
	}
	return orphans, classify(ctx, rows.Err())
}

// ids runs a statement, and returns the ids that it returns.
func (a *application) ids(ctx context.Context, statement string, args ...any) (ids []string, err error) {
	rows, err := a.tx.QueryContext(ctx, statement, args...)
	if err != nil {
		return nil, classify(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, classify(ctx, err)
		}
		ids = append(ids, id)
	}
	return ids, classify(ctx, rows.Err())
}

// reopenStatement corrects the rows of events that have a letter now: they were not applied.
const reopenStatement = "UPDATE inbox SET applied_at = NULL WHERE subscriber = ?0 AND event_id = ANY (?1::uuid[])"

func (a *application) reopen(ctx context.Context) error {
	var ids []string
	for i, event := range a.batch.Events {
		if a.fresh[i] && a.results[i] != inbox.Applied {
			ids = append(ids, event.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return a.exec(ctx, reopenStatement, a.subscriber, pgdialect.Array(ids))
}

// findHeldStatement looks up each aggregate once, by the index of its letters.
const findHeldStatement = `
SELECT k.number FROM unnest(?1::text[], ?2::text[]) WITH ORDINALITY AS k (type, id, number), LATERAL (
	SELECT FROM dead_letters WHERE subscriber = ?0 AND ` + letterAggregate + ` = hashtextextended(k.id, hashtextextended(k.type, 0))
		AND aggregate_type = k.type AND aggregate_id = k.id AND state IN ` + pendingStates + ` LIMIT 1) AS letter`

// findHeld finds the aggregates of fresh events that have pending letters.
func (a *application) findHeld(ctx context.Context) error {
	var keys []outbox.Key
	var types, ids []string
	asked := make(map[outbox.Key]bool)
	for i, event := range a.batch.Events {
		if a.anyLetters && a.fresh[i] && !asked[event.Key] {
			asked[event.Key] = true
			keys, types, ids = append(keys, event.Key), append(types, text(event.Key.Type)), append(ids, text(event.Key.ID))
		}
	}
	if len(keys) == 0 {
		return nil
	}
	rows, err := a.tx.QueryContext(ctx, findHeldStatement, a.subscriber, pgdialect.Array(types), pgdialect.Array(ids))
	if err != nil {
		return classify(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var number int
		if err := rows.Scan(&number); err != nil {
			return classify(ctx, err)
		}
		a.held[keys[number-1]] = true
	}
	return classify(ctx, rows.Err())
}
