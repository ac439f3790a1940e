package memory

// faults break the inside of an Inbox on purpose, for the proof that the subscriber's model test notices. A fault that a wrapper around a
// port can make is not here. These change what a transaction does between its steps, which no wrapper reaches.
type faults struct {
	holdNothing, knowNothing, lettersApart, reviseNothing bool
}

// HoldNothing lets events overtake the letters of their aggregate.
func (i *Inbox) HoldNothing() { i.faults.holdNothing = true }

// KnowNothing applies events again that were applied.
func (i *Inbox) KnowNothing() { i.faults.knowNothing = true }

// LettersApart commits the letter of a failed event at once, without the event's record, and whatever becomes of the batch.
func (i *Inbox) LettersApart() { i.faults.lettersApart = true }

// ReviseNothing lets what is decided about a subscriber leave its lanes at their revisions.
func (i *Inbox) ReviseNothing() { i.faults.reviseNothing = true }
