package relaying

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// streamPosition is how far the leader has come: in the log, and in the stream.
type streamPosition struct {
	progress     outbox.Progress // the last row of the log that was dealt with
	sequence     uint64          // the stream's last sequence, after which the next append must go
	lastOwn      uint64          // sequence of the relay's last message; lower than sequence if somebody else has appended after it
	created      string          // identity of the stream
	session      uint64          // number of the connection over which the position was found
	largest      int             // size of the largest message that the broker accepts
	tailSeenAt   time.Time       // when the stream was last found to end at sequence
	checkedAt    time.Time       // when the stream's settings were last checked
	unsavedSince time.Time       // since when the saved cursor is behind the position; zero: it is not behind
	recordedTo   time.Time       // when the latest row up to progress was recorded; zero: not known, the next save finds it
	verifiedAt   time.Time       // when Log.Verify last succeeded
	lost         uint64          // how many acknowledged messages the stream had lost at the take-over

	parkedWaiting    bool      // whether events may wait in the parking lot
	redriveCheckedAt time.Time // when the relay last asked for events to redrive
}

// cursorInterval is the shortest time between two saves of the cursor, and the longest time that it stays behind the stream.
const cursorInterval = time.Second

// advance moves the position on in the log and the stream, after an append whose last message has the given sequence.
func (p *streamPosition) advance(to outbox.Progress, sequence uint64) {
	p.sequence, p.lastOwn, p.tailSeenAt = sequence, sequence, time.Now()
	p.skipTo(to)
}

// skipTo moves the position on in the log, without a message in the stream: the skipped rows are in the parking lot.
func (p *streamPosition) skipTo(to outbox.Progress) {
	p.progress = to
	if p.unsavedSince.IsZero() {
		p.unsavedSince = time.Now()
	}
}

// saveDue returns how long the cursor may still stay unsaved, or a negative duration if the cursor is saved.
func (p *streamPosition) saveDue() time.Duration {
	if p.unsavedSince.IsZero() {
		return -1
	}
	return max(0, time.Until(p.unsavedSince.Add(cursorInterval)))
}

// saveIfChanged saves the cursor unless it is saved already.
func (p *streamPosition) saveIfChanged(ctx context.Context, cursors relay.CursorStore, l *leadership) error {
	if p.unsavedSince.IsZero() {
		return nil
	}
	_, err := p.save(ctx, cursors, l)
	return err
}

// save saves the cursor, and returns it as it stands in the database. It turns ErrSequenceBehind into a halt.
func (p *streamPosition) save(ctx context.Context, cursors relay.CursorStore, l *leadership) (saved relay.Cursor, err error) {
	err = l.fencedWrite(ctx, func(ctx context.Context, fence relay.WriteFence) error {
		saved, err = cursors.Save(ctx, fence, relay.Cursor{
			Progress: p.progress, StreamCreated: p.created, StreamSequence: p.lastOwn, RecordedTo: p.recordedTo,
		})
		return err
	})
	if err == nil {
		p.unsavedSince, p.verifiedAt, p.recordedTo = time.Time{}, time.Now(), saved.RecordedTo
	}
	return saved, asSequenceHalt(err)
}

// countStored returns how many entries of batch the stream has stored. last is the last sequence of the stream after the append.
func (p *streamPosition) countStored(last uint64, batch []outbox.Entry) int {
	if last <= p.sequence || last-p.sequence > uint64(len(batch)) {
		return 0
	}
	return int(last - p.sequence)
}

// noteRecorded raises recordedTo to the latest time of entries that were dealt with. If recordedTo is not known, it stays unknown.
func (p *streamPosition) noteRecorded(entries []outbox.Entry) {
	if p.recordedTo.IsZero() {
		return
	}
	for i := range entries {
		if entries[i].RecordedAt.After(p.recordedTo) {
			p.recordedTo = entries[i].RecordedAt
		}
	}
}
