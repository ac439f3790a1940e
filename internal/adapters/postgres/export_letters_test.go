package postgres

import "context"

// These statements must not cost more when there are more dead letters.
const (
	HeadStatement         = headStatement
	LettersStatement      = lettersStatement
	PromoteHeadsStatement = promoteHeadsStatement
	PromoteHeadStatement  = promoteHeadStatement
	ForgettableStatement  = forgettableStatement
	ForgetStatement       = forgetStatement
	UndecidedStatement    = undecidedStatement
)

// HeadsAtOnce is how many aggregates PromoteHeads looks at in one call.
const HeadsAtOnce = headsAtOnce

// PromoteHeads exports promoteHeads.
func (i *Inbox) PromoteHeads(ctx context.Context, subscriber string) (int, error) {
	return i.promoteHeads(ctx, subscriber)
}
