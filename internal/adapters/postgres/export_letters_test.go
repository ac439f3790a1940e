package postgres

import "context"

// These statements must not cost more when there are more dead letters.
const (
	HeadStatement        = headStatement
	LettersStatement     = lettersStatement
	NoteTurnsStatement   = promoteHeadsStatement
	NoteTurnStatement    = promoteHeadStatement
	ForgettableStatement = forgettableStatement
	ForgetStatement      = forgetStatement
	UndecidedStatement   = undecidedStatement
)

// TurnsAtOnce is how many aggregates NoteTurns looks at in one call.
const TurnsAtOnce = headsAtOnce

// NoteTurns exports promoteHeads.
func (i *Inbox) NoteTurns(ctx context.Context, subscriber string) (int, error) {
	return i.promoteHeads(ctx, subscriber)
}
