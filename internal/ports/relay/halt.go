package relay

import (
	"context"
	"fmt"
	"time"
)

// HaltReason is the stable code of a state in which the relay halts. The relay must not repair this state by itself, because each
// automatic repair could lose or double events.
type HaltReason string

// The reasons why a relay halts. docs/engine.md explains each of them, and its repair.
const (
	// HaltStreamMissing reports that the stream does not exist any more, although the cursor was saved for a stream.
	HaltStreamMissing HaltReason = "stream_missing"
	// HaltStreamReplaced reports that the stream was deleted and created again since the cursor was saved.
	HaltStreamReplaced HaltReason = "stream_replaced"
	// HaltTailGone reports that a message at the stream's end was deleted or has expired, and that the cursor does not show what
	// the message was.
	HaltTailGone HaltReason = "tail_gone"
	// HaltTailCopied reports that the relay's last message in the stream has a lower position than the cursor, although the message
	// came later: somebody stored a copy of an old message.
	HaltTailCopied HaltReason = "tail_copied"
	// HaltTailForeign reports that the message at the cursor's sequence is not the message that the relay published there.
	HaltTailForeign HaltReason = "tail_foreign"
	// HaltLogPurged reports that the stream lost events that retention has already removed from the log.
	HaltLogPurged HaltReason = "log_purged"
	// HaltHistoryLost reports that the last row of the log that the relay dealt with is missing or has another id. The database lost
	// committed transactions, or it is another database.
	HaltHistoryLost HaltReason = "history_lost"
	// HaltSequenceBehind reports that the sequence of the database, which assigns the log's positions, went back. So events can
	// appear where the relay does not read again.
	HaltSequenceBehind HaltReason = "sequence_behind"
	// HaltStreamUnfit reports that, with the settings of the stream or the version of the broker, an event could be stored in
	// part, unseen, or where no subscriber looks.
	HaltStreamUnfit HaltReason = "stream_unfit"
)

// HaltReasons returns every reason.
func HaltReasons() []HaltReason {
	return []HaltReason{
		HaltStreamMissing, HaltStreamReplaced, HaltTailGone, HaltTailCopied, HaltTailForeign, HaltLogPurged, HaltHistoryLost,
		HaltSequenceBehind, HaltStreamUnfit,
	}
}

// Halt is the error of a relay that has stopped because of a HaltReason. The relay resigns, so that another instance can try, and
// checks at each poll whether the cause has ended.
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

// Equal reports whether both halts have the same reason and detail. A nil Halt means that the relay is not halted.
func (h *Halt) Equal(other *Halt) bool {
	if h == nil || other == nil {
		return h == other
	}
	return *h == *other
}

// InstanceHalts keeps the reports of halted instances, for operators. The relay does not read them. Each instance reports its own
// state, also while another instance leads.
type InstanceHalts interface {
	// Record keeps the reason why the caller's instance is halted. A nil halt means that the instance is not halted. A report
	// expires after HaltReportExpires unless the instance repeats it.
	Record(ctx context.Context, halt *Halt) error
}

// HaltReportExpires is how long a report of a halt counts. So the report of a dead instance goes away.
const HaltReportExpires = time.Minute
