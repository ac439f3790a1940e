package relay

import "fmt"

// HaltReason is the stable code of a state that the relay must not repair by itself, because every automatic way out
// could lose or double events.
type HaltReason string

// Why a relay halts. Each is told in docs/engine.md.
const (
	// HaltStreamMissing : the stream that the cursor knows does not exist any more.
	HaltStreamMissing HaltReason = "stream_missing"
	// HaltStreamReplaced : a stream of that name exists, but it was created at another time than the one the cursor knows.
	HaltStreamReplaced HaltReason = "stream_replaced"
	// HaltTailGone : the last message was deleted or has expired, and the cursor does not know it.
	HaltTailGone HaltReason = "tail_gone"
	// HaltTailCopied : the last message says less than the cursor knows: somebody stored a copy of an old message.
	HaltTailCopied HaltReason = "tail_copied"
	// HaltTailForeign : the end of the stream was written by somebody else, and the last message of ours cannot be found.
	HaltTailForeign HaltReason = "tail_foreign"
	// HaltLogPurged : the stream lost messages that retention has already removed from the log.
	HaltLogPurged HaltReason = "log_purged"
	// HaltHistoryLost : the log's row that was dealt with last is gone or another one: the database lost committed
	// history, or it is another database.
	HaltHistoryLost HaltReason = "history_lost"
	// HaltSequenceBehind reports that the sequence that deals the log's positions went back, so events came, or will come, where the
	// relay does not look any more.
	HaltSequenceBehind HaltReason = "sequence_behind"
	// HaltStreamUnfit reports that the stream's settings, or the broker's version, are such that an event could be stored in part,
	// unseen, or where no subscriber looks.
	HaltStreamUnfit HaltReason = "stream_unfit"
)

// HaltReasons returns every reason.
func HaltReasons() []HaltReason {
	return []HaltReason{
		HaltStreamMissing, HaltStreamReplaced, HaltTailGone, HaltTailCopied, HaltTailForeign, HaltLogPurged, HaltHistoryLost,
		HaltSequenceBehind, HaltStreamUnfit,
	}
}

// Halt is the error of a relay that stopped on purpose. The relay lets other instances lead, which may see more, and looks
// every poll whether the cause has ended.
type Halt struct {
	Reason HaltReason
	Detail string
}

// NewHalt returns a Halt with a formatted detail.
func NewHalt(reason HaltReason, format string, args ...any) *Halt {
	return &Halt{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// Error names the reason and the detail.
func (h *Halt) Error() string { return fmt.Sprintf("relay halted (%s): %s", h.Reason, h.Detail) }

// Equal reports whether both say the same; nil is no halt.
func (h *Halt) Equal(other *Halt) bool {
	if h == nil || other == nil {
		return h == other
	}
	return *h == *other
}
