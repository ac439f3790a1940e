package postgres

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

const (
	// listedColumns are the columns of a listed letter: those of letterColumns without headers and payload.
	listedColumns = `letter.subscriber, letter.event_id, letter.state, letter.error, letter.attempts, letter.aggregate_type, letter.aggregate_id,
	letter.aggregate_version, letter.position, letter.recorded_at, letter.event_type, letter.subject, letter.first_failed_at, letter.dead_at,
	letter.due_at, letter.changed_at, coalesce(letter._no_handler, false) AS _no_handler`

	// listed is true for every letter. Only statements with it can use the index dead_letters_listed. So the planner never takes this index for the
	// statements of lanes, for which it is a bad one: a small table does not tell.
	listed = `state IS DISTINCT FROM ''`

	listOrder = ` ORDER BY letter.position NULLS FIRST, letter.first_failed_at LIMIT ?1`

	// headOfLetter finds the first pending letter of the letter's aggregate. Postgres remembers it for the other letters of the aggregate. So
	// thousands of letters that wait behind the same one cost little.
	headOfLetter = ` LEFT JOIN LATERAL (
		SELECT head.position FROM dead_letters AS head
		WHERE head.subscriber = ?0 AND hashtextextended(head.aggregate_id, hashtextextended(head.aggregate_type, 0)) =
				hashtextextended(letter.aggregate_id, hashtextextended(letter.aggregate_type, 0))
			AND head.aggregate_type = letter.aggregate_type AND head.aggregate_id = letter.aggregate_id AND head.state IN ` + pendingStates + `
		ORDER BY head.position LIMIT 1) AS head ON true `

	// listStatement reads the letters of each state in order of position, by the index dead_letters_listed.
	listStatement = `
WITH letter AS MATERIALIZED (
	(SELECT ` + listedColumns + ` FROM dead_letters AS letter WHERE letter.subscriber = ?0 AND letter.state = 'dead' AND letter.` + listed + listOrder + `)
	UNION ALL
	(SELECT ` + listedColumns + ` FROM dead_letters AS letter WHERE letter.subscriber = ?0 AND letter.state = 'failing' AND letter.` + listed + listOrder + `)
	UNION ALL
	(SELECT ` + listedColumns + ` FROM dead_letters AS letter` + headOfLetter + `
		WHERE letter.subscriber = ?0 AND letter.state = 'retrying' AND letter.` + listed + ` AND (head.position < letter.position) IS NOT TRUE` + listOrder + `)
	UNION ALL
	(SELECT ` + listedColumns + ` FROM dead_letters AS letter` + headOfLetter + `
		WHERE letter.subscriber = ?0 AND letter.state = 'waiting' AND letter.` + listed + ` AND (head.position < letter.position) IS NOT TRUE` + listOrder + `)
), listed AS MATERIALIZED (
	SELECT * FROM letter` + listOrder + `
)
SELECT letter.*, CASE WHEN letter.state = 'waiting' THEN 'retrying' ELSE letter.state END AS shown, ` + behind + `
FROM listed AS letter` + listOrder
)

// Letters looks up, for each letter that may wait, the first pending letter of its aggregate.
func (i *Inbox) Letters(ctx context.Context, subscriber string, limit int) ([]inbox.Letter, error) {
	ctx = allow(ctx, operatorTime)
	var rows []letterRow
	if err := i.db.NewRaw(listStatement, subscriber, max(limit, 0)).Scan(ctx, &rows); err != nil {
		return nil, classify(ctx, err)
	}
	letters := make([]inbox.Letter, 0, len(rows))
	for _, row := range rows {
		letters = append(letters, row.letter())
	}
	return letters, nil
}
