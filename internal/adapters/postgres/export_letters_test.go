package postgres

import "context"

// The statements whose cost must not rise with the number of letters.
const (
	HeadStatement        = headStatement
	LettersStatement     = lettersStatement
	NoteTurnsStatement   = promoteHeadsStatement
	NoteTurnStatement    = promoteHeadStatement
	ForgettableStatement = forgettableStatement
	ForgetStatement      = forgetStatement
	UndecidedStatement   = undecidedStatement
)

// TurnsAtOnce is how many aggregates NoteTurns looks at.
const TurnsAtOnce = headsAtOnce

// NoteTurns makes noteTurns testable.
func (i *Inbox) NoteTurns(ctx context.Context, subscriber string) (int, error) {
	return i.promoteHeads(ctx, subscriber)
}
