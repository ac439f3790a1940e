package relaying

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// place is where the stream and the log meet.
type streamPosition struct {
	progress outbox.Progress // the last row that was dealt with
	sequence uint64          // the stream's last sequence: where the next append has to follow
	lastOwn      uint64          // sequence of our last message; below sequence only when somebody else wrote after it
	created  string          // identity of the stream
	session  uint64          // of the connection over which it was found
	largest  int             // size of the largest message that the broker takes
	tailSeenAt     time.Time       // when the stream was found to end there last
	checkedAt   time.Time       // when the stream's settings were looked at last
	unsavedSince  time.Time       // since when the cursor is behind; zero: it is not
	recordedTo time.Time       // when the latest of the rows up to progress was recorded; zero: the cursor knows, or nobody
	verifiedAt time.Time       // when the log was found to grow after progress alone
	lost     uint64          // how many messages that were acknowledged the stream had lost when it was taken over

	parkedWaiting  bool      // events may wait in the parking lot
	redriveCheckedAt time.Time // when the parking lot was looked after last
}

// cursorEvery bounds both how often the cursor is saved and how far it may lag behind the last publish.
const cursorInterval = time.Second

func (p *streamPosition) advance(to outbox.Progress, sequence uint64) {
	p.sequence, p.lastOwn, p.tailSeenAt = sequence, sequence, time.Now()
	p.skipTo(to)
}

// skip moves on in the log alone: what was passed is in the parking lot.
func (p *streamPosition) skipTo(to outbox.Progress) {
	p.progress = to
	if p.unsavedSince.IsZero() {
		p.unsavedSince = time.Now()
	}
}

// due is how long the cursor may still wait to be saved; negative when nothing is unsaved.
func (p *streamPosition) saveDue() time.Duration {
	if p.unsavedSince.IsZero() {
		return -1
	}
	return max(0, time.Until(p.unsavedSince.Add(cursorInterval)))
}

func (p *streamPosition) saveIfChanged(ctx context.Context, cursors relay.CursorStore, l *leadership) error {
	if p.unsavedSince.IsZero() {
		return nil
	}
	_, err := p.save(ctx, cursors, l)
	return err
}

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

// takeOver finds the place from the stream's tail. The cursor only helps: it bounds the search, and it knows a stream that
// is not the one it used to be.
//
// Before anything is published, parking lot and cursor are brought in line with the tail. Thereby the cursor goes back with
// a stream that lost messages, so that retention cannot remove what is needed, and a new stream is remembered while it
// is empty. And it takes the turn: no request from before can change anything from now on.
func (r *Relay) takeOver(l *leadership, logger *slog.Logger) (*streamPosition, error) {
	cursor, err := r.Cursors.Load(l.ctx)
	if err != nil {
		return nil, err
	}
	l.revision, l.reportedHalt = cursor.Revision, cursor.Halt
	var create uint64 // a stream that the cursor knows is never made again by itself
	if cursor.StreamCreated == "" {
		create = 1
	}
	info, err := r.Publisher.Open(l.ctx, create)
	pos, tail, err := r.findPosition(l.ctx, cursor, info, err)
	if err != nil {
		return nil, err
	}
	if pos.lastOwn < pos.sequence && pos.sequence != r.warnedForeign {
		r.warnedForeign = pos.sequence
		logger.Warn("somebody else publishes into the stream", "sequence", pos.sequence, "ours", pos.lastOwn)
	}
	held := pos.lastOwn
	if !tail.Own && held <= info.Base {
		held = 0 // the stream holds none of our messages; lower sequences belong to a former stream
	}
	lost, err := r.reconcile(l, pos, tail, held, false)
	if err != nil {
		return nil, err
	}
	saved, err := pos.save(l.ctx, r.Cursors, l)
	if err != nil {
		return nil, err
	}
	if err := haltIfPurged(pos, saved); err != nil {
		return nil, err
	}
	r.update(func(s *Status) {
		s.TakeOvers++
		s.Position, s.Sequence = pos.progress.Position, pos.lastOwn
	})
	if lost {
		err = r.redriveAgain(l, pos, tail, held, logger)
	}
	return pos, err
}

// judge finds the place, given what the broker says about the stream, or why nobody may go on from there. It changes nothing:
// what a halted relay misses may be brought back.
func (r *Relay) findPosition(
	ctx context.Context, cursor relay.Cursor, info relay.StreamInfo, opened error,
) (*streamPosition, relay.MessageMeta, error) {
	switch {
	case errors.Is(opened, relay.ErrStreamMissing):
		return nil, relay.MessageMeta{}, relay.NewHalt(relay.HaltStreamMissing,
			"the stream is gone; it held everything up to position %d at sequence %d", cursor.Position, cursor.StreamSequence)
	case errors.Is(opened, relay.ErrStreamUnfit):
		return nil, relay.MessageMeta{}, relay.NewHalt(relay.HaltStreamUnfit, "%s", opened.Error())
	case opened != nil:
		return nil, relay.MessageMeta{}, opened
	case cursor.StreamCreated != "" && cursor.StreamCreated != info.Created:
		return nil, relay.MessageMeta{}, relay.NewHalt(relay.HaltStreamReplaced,
			"the stream was created at %s, but the cursor knows the one created at %s", info.Created, cursor.StreamCreated)
	}
	pos, tail, err := r.locate(ctx, cursor, info)
	if err != nil {
		return nil, tail, err
	}
	if err := haltIfPurged(pos, cursor); err != nil {
		return nil, tail, err
	}
	return pos, tail, r.verify(ctx, pos, tail)
}

// redriveAgain marks what was redriven and is not in the stream any more, after a notice at its end: in a cluster of brokers,
// one that led the stream and does not know yet that it does no longer answers with an old end, but stores nothing.
func (r *Relay) redriveAgain(l *leadership, pos *streamPosition, tail relay.MessageMeta, held uint64, logger *slog.Logger) error {
	last, err := r.Publisher.PublishControl(l.ctx, pos.sequence, relay.ControlMessage{Progress: pos.progress, Confirms: true, LastOwnSequence: tail.MaxRedriven(held)})
	if err != nil {
		return err
	}
	if _, err := r.reconcile(l, pos, tail, held, true); err != nil {
		return err
	}
	r.appended(pos, pos.progress, last, logger)
	return nil
}

// appended moves place on after an append, which proves where the stream had ended.
func (r *Relay) appended(pos *streamPosition, to outbox.Progress, last uint64, logger *slog.Logger) {
	if pos.lost > 0 {
		r.update(func(s *Status) { s.Heals++ })
		logger.Error("the stream had lost acknowledged messages, which are published again",
			"lost", pos.lost, "sequence", pos.sequence, "position", pos.progress.Position)
		pos.lost = 0
	}
	pos.advance(to, last)
}

// purged halts when retention has removed what the stream needs.
func haltIfPurged(pos *streamPosition, cursor relay.Cursor) error {
	if pos.progress.Position >= cursor.PurgedTo {
		return nil
	}
	return relay.NewHalt(relay.HaltLogPurged, "the stream ends at position %d, but the log begins after position %d",
		pos.progress.Position, cursor.PurgedTo)
}

// settle brings the parking lot in line with the stream, in which tail is our last message, and, if end says so, the stream is
// known to end there.
func (r *Relay) reconcile(l *leadership, pos *streamPosition, tail relay.MessageMeta, sequence uint64, end bool) (lost bool, err error) {
	err = l.fencedWrite(l.ctx, func(ctx context.Context, fence relay.WriteFence) (err error) {
		settled, err := r.Parking.Reconcile(ctx, fence, tail, sequence, end)
		pos.parkedWaiting, lost = settled.Waiting, settled.Lost
		return err
	})
	return lost, err
}

// locate finds our last message in the stream. A stream that is shorter than the cursor knows lost what it had
// acknowledged: the log still has it.
func (r *Relay) locate(ctx context.Context, cursor relay.Cursor, info relay.StreamInfo) (*streamPosition, relay.MessageMeta, error) {
	pos := &streamPosition{
		sequence: info.LastSequence, created: info.Created, session: info.Session, largest: info.Largest, tailSeenAt: time.Now(), checkedAt: time.Now(),
	}
	floor := cursor.StreamSequence
	if info.LastSequence < floor {
		pos.lost, floor = floor-info.LastSequence, 0
	}
	floor = max(floor, info.Base)
	own, tail, err := r.lastOwnMessage(ctx, info, floor)
	if err != nil {
		return nil, relay.MessageMeta{}, err
	}
	pos.lastOwn, pos.progress = own, tail.Progress
	switch {
	case pos.lost > 0:
	case own == cursor.StreamSequence:
		pos.progress, tail, err = r.atCursor(ctx, cursor)
	case tail.Progress.Position >= cursor.Position:
	case tail.Redriven || tail.Parked != "" || tail.Confirms:
		// A leader behind our cursor wrote this. Everything between is parked; otherwise its append would have failed.
		pos.progress = cursor.Progress
	default:
		err = relay.NewHalt(relay.HaltTailCopied, "the message at sequence %d is event %s at position %d, but position %d was published before it",
			own, tail.Progress.EventID, tail.Progress.Position, cursor.Position)
	}
	return pos, tail, err
}

// atCursor judges a stream in which nothing of ours came after the cursor's sequence. The message there, if it still
// exists, has to be the one that the cursor was saved for. It may say less than the cursor, because what comes after it in
// the log is parked. The word of an operator counts more than the cursor: the stream may have gone back, and grown to this
// sequence by an adoption that has not come to the cursor yet.
func (r *Relay) atCursor(ctx context.Context, cursor relay.Cursor) (outbox.Progress, relay.MessageMeta, error) {
	if cursor.StreamSequence == 0 {
		return cursor.Progress, relay.MessageMeta{}, nil
	}
	tail, err := r.Publisher.At(ctx, cursor.StreamSequence)
	switch {
	case errors.Is(err, relay.ErrNoMessage):
		return cursor.Progress, relay.MessageMeta{}, nil
	case err != nil:
		return outbox.Progress{}, tail, err
	case !tail.Own || tail.Progress.Position > cursor.Position:
		return outbox.Progress{}, tail, relay.NewHalt(relay.HaltTailForeign,
			"the message at sequence %d is not the one that was published there for position %d", cursor.StreamSequence, cursor.Position)
	case tail.Progress.Position == cursor.Position, tail.Adopted():
		return tail.Progress, tail, nil
	}
	return cursor.Progress, tail, nil
}

// lastOfOurs walks back from the stream's end to the last message that the engine wrote, but not below floor. It returns
// floor and nothing when there is none above it. What it finds to be somebody else's it does not look at again.
func (r *Relay) lastOwnMessage(ctx context.Context, info relay.StreamInfo, floor uint64) (uint64, relay.MessageMeta, error) {
	found := func(sequence uint64, stamp relay.MessageMeta) (uint64, relay.MessageMeta, error) {
		r.foreign = foreignRange{created: info.Created, session: info.Session, after: sequence, upTo: info.LastSequence}
		return sequence, stamp, nil
	}
	for sequence := info.LastSequence; sequence > floor; {
		if r.foreign.contains(info, sequence) {
			sequence = r.foreign.after
			continue
		}
		stamp, err := r.Publisher.At(ctx, sequence)
		switch {
		case errors.Is(err, relay.ErrNoMessage):
			return 0, stamp, relay.NewHalt(relay.HaltTailGone, "the message at sequence %d was deleted or has expired", sequence)
		case err != nil:
			return 0, stamp, err
		case stamp.Own:
			return found(sequence, stamp)
		}
		sequence--
	}
	return found(floor, relay.MessageMeta{})
}

// others is a part of the stream in which only others wrote. It stays so while the stream is the same and was not lost from
// sight.
type foreignRange struct {
	created     string
	session     uint64
	after, upTo uint64
}

func (o foreignRange) contains(info relay.StreamInfo, sequence uint64) bool {
	return o.created == info.Created && o.session == info.Session && o.after < sequence && sequence <= o.upTo
}
