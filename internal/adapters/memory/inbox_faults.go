package memory

// faults break the inside of an Inbox on purpose, to prove that the subscriber's model test notices each fault. They change what a
// transaction does between its steps. Faults that a wrapper around a port can make are not here.
type faults struct {
	holdNothing, knowNothing, lettersApart, reviseNothing bool
}

// HoldNothing lets events overtake the letters of their aggregate.
func (i *Inbox) HoldNothing() { i.faults.holdNothing = true }

// KnowNothing applies events again that were applied before.
func (i *Inbox) KnowNothing() { i.faults.knowNothing = true }

// LettersApart commits the letter of a failed event at once, without the event's record, even if the batch fails.
func (i *Inbox) LettersApart() { i.faults.lettersApart = true }

// ReviseNothing gives lanes no new revisions when an operator or Subscribe changes their subscriber.
func (i *Inbox) ReviseNothing() { i.faults.reviseNothing = true }
