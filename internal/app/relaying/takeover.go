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
type place struct {
	progress outbox.Progress // the last row that was dealt with
	sequence uint64          // the stream's last sequence: where the next append has to follow
	own      uint64          // sequence of our last message; below sequence only when somebody else wrote after it
	created  string          // identity of the stream
	session  uint64          // of the connection over which it was found
	largest  int             // size of the largest message that the broker takes
	seen     time.Time       // when the stream was found to end there last
	looked   time.Time       // when the stream's settings were looked at last
	unsaved  time.Time       // since when the cursor is behind; zero: it is not
	recorded time.Time       // when the latest of the rows up to progress was recorded; zero: the cursor knows, or nobody
	verified time.Time       // when the log was found to grow after progress alone
	lost     uint64          // how many messages that were acknowledged the stream had lost when it was taken over

	waiting  bool      // events may wait in the parking lot
	attended time.Time // when the parking lot was looked after last
}

// cursorEvery bounds both how often the cursor is saved and how far it may lag behind the last publish.
const cursorEvery = time.Second

func (p *place) advance(to outbox.Progress, sequence uint64) {
	p.sequence, p.own, p.seen = sequence, sequence, time.Now()
	p.skip(to)
}

// skip moves on in the log alone: what was passed is in the parking lot.
func (p *place) skip(to outbox.Progress) {
	p.progress = to
	if p.unsaved.IsZero() {
		p.unsaved = time.Now()
	}
}

// due is how long the cursor may still wait to be saved; negative when nothing is unsaved.
func (p *place) due() time.Duration {
	if p.unsaved.IsZero() {
		return -1
	}
	return max(0, time.Until(p.unsaved.Add(cursorEvery)))
}

func (p *place) save(ctx context.Context, cursors relay.CursorStore, t *tenure) error {
	if p.unsaved.IsZero() {
		return nil
	}
	_, err := p.store(ctx, cursors, t)
	return err
}

func (p *place) store(ctx context.Context, cursors relay.CursorStore, t *tenure) (saved relay.Cursor, err error) {
	err = t.write(ctx, func(ctx context.Context, turn relay.WriteFence) error {
		saved, err = cursors.Save(ctx, turn, relay.Cursor{
			Progress: p.progress, StreamCreated: p.created, StreamSequence: p.own, RecordedTo: p.recorded,
		})
		return err
	})
	if err == nil {
		p.unsaved, p.verified, p.recorded = time.Time{}, time.Now(), saved.RecordedTo
	}
	return saved, disordered(err)
}

// takeOver finds the place from the stream's tail. The cursor only helps: it bounds the search, and it knows a stream that
// is not the one it used to be.
//
// Before anything is published, parking lot and cursor are brought in line with the tail. Thereby the cursor goes back with
// a stream that lost messages, so that retention cannot remove what is needed, and a new stream is remembered while it
// is empty. And it takes the turn: no request from before can change anything from now on.
func (r *Relay) takeOver(t *tenure, logger *slog.Logger) (*place, error) {
	cursor, err := r.Cursors.Load(t.ctx)
	if err != nil {
		return nil, err
	}
	t.revision, t.reported = cursor.Revision, cursor.Halt
	var create uint64 // a stream that the cursor knows is never made again by itself
	if cursor.StreamCreated == "" {
		create = 1
	}
	info, err := r.Publisher.Open(t.ctx, create)
	here, tail, err := r.judge(t.ctx, cursor, info, err)
	if err != nil {
		return nil, err
	}
	if here.own < here.sequence && here.sequence != r.strange {
		r.strange = here.sequence
		logger.Warn("somebody else publishes into the stream", "sequence", here.sequence, "ours", here.own)
	}
	held := here.own
	if !tail.Own && held <= info.Base {
		held = 0 // the stream holds none of our messages; lower sequences belong to a former stream
	}
	lost, err := r.settle(t, here, tail, held, false)
	if err != nil {
		return nil, err
	}
	saved, err := here.store(t.ctx, r.Cursors, t)
	if err != nil {
		return nil, err
	}
	if err := purged(here, saved); err != nil {
		return nil, err
	}
	r.update(func(s *Status) {
		s.TakeOvers++
		s.Position, s.Sequence = here.progress.Position, here.own
	})
	if lost {
		err = r.redriveAgain(t, here, tail, held, logger)
	}
	return here, err
}

// judge finds the place, given what the broker says about the stream, or why nobody may go on from there. It changes nothing:
// what a halted relay misses may be brought back.
func (r *Relay) judge(
	ctx context.Context, cursor relay.Cursor, info relay.StreamInfo, opened error,
) (*place, relay.MessageMeta, error) {
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
	here, tail, err := r.locate(ctx, cursor, info)
	if err != nil {
		return nil, tail, err
	}
	if err := purged(here, cursor); err != nil {
		return nil, tail, err
	}
	return here, tail, r.verify(ctx, here, tail)
}

// redriveAgain marks what was redriven and is not in the stream any more, after a notice at its end: in a cluster of brokers,
// one that led the stream and does not know yet that it does no longer answers with an old end, but stores nothing.
func (r *Relay) redriveAgain(t *tenure, here *place, tail relay.MessageMeta, held uint64, logger *slog.Logger) error {
	last, err := r.Publisher.PublishControl(t.ctx, here.sequence, relay.ControlMessage{Progress: here.progress, Confirms: true, LastOwnSequence: tail.MaxRedriven(held)})
	if err != nil {
		return err
	}
	if _, err := r.settle(t, here, tail, held, true); err != nil {
		return err
	}
	r.appended(here, here.progress, last, logger)
	return nil
}

// appended moves place on after an append, which proves where the stream had ended.
func (r *Relay) appended(place *place, to outbox.Progress, last uint64, logger *slog.Logger) {
	if place.lost > 0 {
		r.update(func(s *Status) { s.Heals++ })
		logger.Error("the stream had lost acknowledged messages, which are published again",
			"lost", place.lost, "sequence", place.sequence, "position", place.progress.Position)
		place.lost = 0
	}
	place.advance(to, last)
}

// purged halts when retention has removed what the stream needs.
func purged(here *place, cursor relay.Cursor) error {
	if here.progress.Position >= cursor.PurgedTo {
		return nil
	}
	return relay.NewHalt(relay.HaltLogPurged, "the stream ends at position %d, but the log begins after position %d",
		here.progress.Position, cursor.PurgedTo)
}

// settle brings the parking lot in line with the stream, in which tail is our last message, and, if end says so, the stream is
// known to end there.
func (r *Relay) settle(t *tenure, here *place, tail relay.MessageMeta, sequence uint64, end bool) (lost bool, err error) {
	err = t.write(t.ctx, func(ctx context.Context, turn relay.WriteFence) (err error) {
		settled, err := r.Parking.Reconcile(ctx, turn, tail, sequence, end)
		here.waiting, lost = settled.Waiting, settled.Lost
		return err
	})
	return lost, err
}

// locate finds our last message in the stream. A stream that is shorter than the cursor knows lost what it had
// acknowledged: the log still has it.
func (r *Relay) locate(ctx context.Context, cursor relay.Cursor, info relay.StreamInfo) (*place, relay.MessageMeta, error) {
	here := &place{
		sequence: info.LastSequence, created: info.Created, session: info.Session, largest: info.Largest, seen: time.Now(), looked: time.Now(),
	}
	floor := cursor.StreamSequence
	if info.LastSequence < floor {
		here.lost, floor = floor-info.LastSequence, 0
	}
	floor = max(floor, info.Base)
	own, tail, err := r.lastOfOurs(ctx, info, floor)
	if err != nil {
		return nil, relay.MessageMeta{}, err
	}
	here.own, here.progress = own, tail.Progress
	switch {
	case here.lost > 0:
	case own == cursor.StreamSequence:
		here.progress, tail, err = r.atCursor(ctx, cursor)
	case tail.Progress.Position >= cursor.Position:
	case tail.Redriven || tail.Parked != "" || tail.Confirms:
		// A leader behind our cursor wrote this. Everything between is parked; otherwise its append would have failed.
		here.progress = cursor.Progress
	default:
		err = relay.NewHalt(relay.HaltTailCopied, "the message at sequence %d is event %s at position %d, but position %d was published before it",
			own, tail.Progress.EventID, tail.Progress.Position, cursor.Position)
	}
	return here, tail, err
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
func (r *Relay) lastOfOurs(ctx context.Context, info relay.StreamInfo, floor uint64) (uint64, relay.MessageMeta, error) {
	found := func(sequence uint64, stamp relay.MessageMeta) (uint64, relay.MessageMeta, error) {
		r.others = others{created: info.Created, session: info.Session, after: sequence, upTo: info.LastSequence}
		return sequence, stamp, nil
	}
	for sequence := info.LastSequence; sequence > floor; {
		if r.others.hold(info, sequence) {
			sequence = r.others.after
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
type others struct {
	created     string
	session     uint64
	after, upTo uint64
}

func (o others) hold(info relay.StreamInfo, sequence uint64) bool {
	return o.created == info.Created && o.session == info.Session && o.after < sequence && sequence <= o.upTo
}
