package relaying

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// takeOver finds the position at the stream's tail. The cursor is only a hint: it bounds the search, and it shows if the stream was
// replaced or has lost messages.
//
// Before the relay publishes, takeOver brings the parking lot and the cursor in line with the tail. This has three effects. First, if the
// stream lost messages, the cursor goes back too, so that retention does not remove the entries that the relay publishes again. Second,
// the cursor knows a new stream from then on, even while the stream is empty. Third, the writes raise the revision, so that no earlier
// request can take effect.
func (r *Relay) takeOver(l *leadership, logger *slog.Logger) (*streamPosition, error) {
	cursor, err := r.Cursors.Load(l.ctx)
	if err != nil {
		return nil, err
	}
	l.revision, l.reportedHalt = cursor.Revision, cursor.Halt
	var create uint64 // 0: if the cursor knows a stream, the relay never creates it again by itself
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
		logger.Warn("somebody else publishes into the stream", "sequence", pos.sequence, "relay_sequence", pos.lastOwn)
	}
	lastRelaySequence := pos.lastOwn
	if !tail.Own && lastRelaySequence <= info.Base {
		lastRelaySequence = 0 // the stream holds no message of a relay; sequences up to info.Base belong to a former stream
	}
	lost, err := r.reconcile(l, pos, tail, lastRelaySequence, false)
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
		err = r.redriveAgain(l, pos, tail, lastRelaySequence, logger)
	}
	return pos, err
}

// findPosition finds the position at the tail. info and opened are what Publisher.Open or Publisher.Look has returned. If the relay must
// not go on from the position, findPosition returns a *relay.Halt. It changes nothing, so a halted relay can call it again and again until
// the lost messages or rows are back.
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
	_, err = r.verify(ctx, pos, tail)
	return pos, tail, err
}

// redriveAgain marks the redriven events that the stream has lost, so that the relay redrives them again. First it appends a control
// message, which proves where the stream ends. The proof is necessary in a cluster: a broker that led the stream before may answer with an
// old end of the stream, but an append through this broker stores nothing.
func (r *Relay) redriveAgain(l *leadership, pos *streamPosition, tail relay.MessageMeta, lastRelaySequence uint64, logger *slog.Logger) error {
	confirmation := relay.ControlMessage{Progress: pos.progress, Confirms: true, LastOwnSequence: tail.MaxRedriven(lastRelaySequence)}
	last, err := r.Publisher.PublishControl(l.ctx, pos.sequence, confirmation)
	if err != nil {
		return err
	}
	if _, err := r.reconcile(l, pos, tail, lastRelaySequence, true); err != nil {
		return err
	}
	r.appended(pos, pos.progress, last, logger)
	return nil
}

// appended moves the position on after an append. The append has proved where the stream ended. So if the take-over found a loss, the loss
// is now certain, and appended reports it.
func (r *Relay) appended(pos *streamPosition, to outbox.Progress, last uint64, logger *slog.Logger) {
	if pos.lost > 0 {
		r.update(func(s *Status) { s.Heals++ })
		logger.Error("the stream had lost acknowledged messages, which are published again",
			"lost", pos.lost, "sequence", pos.sequence, "position", pos.progress.Position)
		pos.lost = 0
	}
	pos.advance(to, last)
}

// haltIfPurged returns a halt if the stream has lost events and retention has removed their entries from the log.
func haltIfPurged(pos *streamPosition, cursor relay.Cursor) error {
	if pos.progress.Position >= cursor.PurgedTo {
		return nil
	}
	return relay.NewHalt(relay.HaltLogPurged, "the stream ends at position %d, but the log begins after position %d",
		pos.progress.Position, cursor.PurgedTo)
}

// reconcile brings the parking lot in line with the stream; see relay.Parking. It reports whether the stream lost redriven events.
func (r *Relay) reconcile(l *leadership, pos *streamPosition, tail relay.MessageMeta, sequence uint64, end bool) (lost bool, err error) {
	err = l.fencedWrite(l.ctx, func(ctx context.Context, fence relay.WriteFence) (err error) {
		summary, err := r.Parking.Reconcile(ctx, fence, tail, sequence, end)
		pos.parkedWaiting, lost = summary.Waiting, summary.Lost
		return err
	})
	return lost, err
}

// locate finds the relay's last message in the stream, and the position from it. If the stream ends before the cursor's sequence, it has
// lost acknowledged messages, and the relay publishes their events again from the log.
func (r *Relay) locate(ctx context.Context, cursor relay.Cursor, info relay.StreamInfo) (*streamPosition, relay.MessageMeta, error) {
	pos := &streamPosition{
		sequence: info.LastSequence, created: info.Created, session: info.Session, largest: info.Largest,
		tailSeenAt: time.Now(), checkedAt: time.Now(),
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
		// A leader with an older cursor wrote this message. All entries between its position and the cursor are parked. Otherwise its
		// append would have failed.
		pos.progress = cursor.Progress
	default:
		err = relay.NewHalt(relay.HaltTailCopied, "the message at sequence %d is event %s at position %d, but position %d was published before it",
			own, tail.Progress.EventID, tail.Progress.Position, cursor.Position)
	}
	return pos, tail, err
}

// atCursor returns the progress if the stream has no message of a relay after the cursor's sequence. If the message at the cursor's
// sequence still exists, it must be the message for which the cursor was saved. Its progress may be lower than the cursor's: then the
// entries between the two are parked.
//
// The control message of an operator's repair is an exception: its progress counts, not the cursor's. The stream may have lost messages,
// and the repair may have appended its message at this sequence without having written the cursor yet.
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

// lastOwnMessage walks back from the stream's end to the relay's last message above floor. If there is no such message, it returns floor
// and a zero MessageMeta. It remembers the messages of others that it has read, so that the next call does not read them again.
func (r *Relay) lastOwnMessage(ctx context.Context, info relay.StreamInfo, floor uint64) (uint64, relay.MessageMeta, error) {
	found := func(sequence uint64, meta relay.MessageMeta) (uint64, relay.MessageMeta, error) {
		r.foreign = foreignRange{created: info.Created, session: info.Session, after: sequence, upTo: info.LastSequence}
		return sequence, meta, nil
	}
	for sequence := info.LastSequence; sequence > floor; {
		if r.foreign.contains(info, sequence) {
			sequence = r.foreign.after
			continue
		}
		meta, err := r.Publisher.At(ctx, sequence)
		switch {
		case errors.Is(err, relay.ErrNoMessage):
			return 0, meta, relay.NewHalt(relay.HaltTailGone, "the message at sequence %d was deleted or has expired", sequence)
		case err != nil:
			return 0, meta, err
		case meta.Own:
			return found(sequence, meta)
		}
		sequence--
	}
	return found(floor, relay.MessageMeta{})
}

// foreignRange is a part of the stream in which no message is a relay's. It is valid only for the same stream over the same connection.
type foreignRange struct {
	created     string
	session     uint64
	after, upTo uint64
}

func (o foreignRange) contains(info relay.StreamInfo, sequence uint64) bool {
	return o.created == info.Created && o.session == info.Session && o.after < sequence && sequence <= o.upTo
}
