package memory

// mutants are ways to break an Inbox on purpose. They exist for the proof that tests notice.
type faults struct {
	holdNothing, knowNothing, noCompareAndSwap, ignoreStoredTime, lettersApart, moveEarly, reviseNothing bool
}

// HoldNothing lets events overtake the letters of their aggregate.
func (i *Inbox) HoldNothing() { i.faults.holdNothing = true }

// KnowNothing applies events again that were applied.
func (i *Inbox) KnowNothing() { i.faults.knowNothing = true }

// NoCompareAndSwap moves a lane from wherever it is.
func (i *Inbox) NoCompareAndSwap() { i.faults.noCompareAndSwap = true }

// IgnoreStoredTime compares of a checkpoint only the stream and the sequence.
func (i *Inbox) IgnoreStoredTime() { i.faults.ignoreStoredTime = true }

// LettersApart commits the letter of a failed event at once, without the event's record, and whatever becomes of the batch.
func (i *Inbox) LettersApart() { i.faults.lettersApart = true }

// MoveEarly commits the new place of a lane before it applies the events.
func (i *Inbox) MoveEarly() { i.faults.moveEarly = true }

// ReviseNothing lets what is decided about a subscriber leave its lanes at their revisions.
func (i *Inbox) ReviseNothing() { i.faults.reviseNothing = true }
