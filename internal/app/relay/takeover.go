package relay

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// place is where the stream and the log meet.
type place struct {
	progress outbox.Progress // the last row that was dealt with
	sequence uint64          // the stream's last sequence: where the next append has to follow
	own      uint64          // sequence of our last message; below sequence only when somebody else wrote after it
	created  string          // identity of the stream
	unsaved  time.Time       // since when the cursor is behind; zero: it is not
}

// cursorEvery bounds both how often the cursor is saved and how far it may lag behind the last publish.
const cursorEvery = time.Second

func (p *place) advance(to outbox.Progress, sequence uint64) {
	p.progress, p.sequence, p.own = to, sequence, sequence
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

func (p *place) save(ctx context.Context, cursors ports.CursorStore, term outbox.Term) error {
	if p.unsaved.IsZero() {
		return nil
	}
	_, err := cursors.Save(ctx, term, p.cursor())
	if err == nil {
		p.unsaved = time.Time{}
	}
	return err
}

func (p *place) cursor() outbox.Cursor {
	return outbox.Cursor{Progress: p.progress, StreamCreated: p.created, StreamSequence: p.own}
}

// takeOver finds the place from the stream's tail. The cursor only helps: it bounds the search, and it knows a stream that
// is not the one it used to be.
func (r *Relay) takeOver(t *tenure, logger *slog.Logger) (*place, error) {
	cursor, err := r.Cursors.Load(t.ctx)
	if err != nil {
		return nil, err
	}
	info, err := r.Publisher.Open(t.ctx, cursor.StreamCreated == "")
	if errors.Is(err, ports.ErrStreamMissing) {
		return nil, outbox.NewHalt(outbox.HaltStreamMissing, "the stream is gone; it held everything up to position %d at sequence %d",
			cursor.Position, cursor.StreamSequence)
	}
	if err != nil {
		return nil, err
	}
	if cursor.StreamCreated != "" && cursor.StreamCreated != info.Created {
		return nil, outbox.NewHalt(outbox.HaltStreamReplaced, "the stream was created at %s, but the cursor knows the one created at %s",
			info.Created, cursor.StreamCreated)
	}
	here := &place{sequence: info.LastSequence, created: info.Created}
	if info.LastSequence < cursor.StreamSequence {
		err = r.heal(t, here, cursor, logger)
	} else {
		err = r.follow(t, here, cursor, logger)
	}
	if err != nil {
		return nil, err
	}
	if cursor.StreamCreated == "" { // remember the stream before anything is in it: it must not be made twice
		here.unsaved = time.Now()
		if err := here.save(t.ctx, r.Cursors, t.term()); err != nil {
			return nil, err
		}
	}
	return here, nil
}

// follow continues a stream that holds at least what the cursor knows.
func (r *Relay) follow(t *tenure, here *place, cursor outbox.Cursor, logger *slog.Logger) error {
	own, progress, err := r.lastOfOurs(t.ctx, here.sequence, cursor.StreamSequence)
	if err != nil {
		return err
	}
	if own < here.sequence && here.sequence != r.strange {
		r.strange = here.sequence
		logger.Warn("somebody else publishes into the stream", "sequence", here.sequence, "ours", own)
	}
	if own == cursor.StreamSequence {
		if progress, err = r.atCursor(t.ctx, cursor); err != nil {
			return err
		}
	} else if progress.Position < cursor.Position {
		return outbox.NewHalt(outbox.HaltTailCopied, "the message at sequence %d is event %s at position %d, but position %d was published before it",
			own, progress.EventID, progress.Position, cursor.Position)
	}
	if progress.Position < cursor.PurgedTo {
		return purged(progress, cursor)
	}
	here.own, here.progress = own, progress
	return nil
}

// atCursor judges a stream in which nothing of ours came after the cursor's sequence. The message there, if it still
// exists, has to be the one that the cursor was saved for.
func (r *Relay) atCursor(ctx context.Context, cursor outbox.Cursor) (outbox.Progress, error) {
	if cursor.StreamSequence == 0 {
		return cursor.Progress, nil
	}
	stamp, err := r.Publisher.At(ctx, cursor.StreamSequence)
	switch {
	case errors.Is(err, ports.ErrNoMessage):
		return cursor.Progress, nil
	case err != nil:
		return outbox.Progress{}, err
	case !stamp.Ours || stamp.Progress.Position > cursor.Position:
		return outbox.Progress{}, outbox.NewHalt(outbox.HaltTailForeign,
			"the message at sequence %d is not the one that was published there for position %d", cursor.StreamSequence, cursor.Position)
	case stamp.Progress.Position == cursor.Position:
		return stamp.Progress, nil
	}
	return cursor.Progress, nil
}

// heal continues a stream that lost messages which it had acknowledged: the log still has them. The cursor goes back
// first, so that retention cannot remove what is needed; what it had removed before is known only after that.
func (r *Relay) heal(t *tenure, here *place, cursor outbox.Cursor, logger *slog.Logger) error {
	own, progress, err := r.lastOfOurs(t.ctx, here.sequence, 0)
	if err != nil {
		return err
	}
	here.own, here.progress = own, progress
	saved, err := r.Cursors.Save(t.ctx, t.term(), here.cursor())
	if err != nil {
		return err
	}
	r.update(func(s *Status) { s.Heals++ })
	logger.Error("the stream lost acknowledged messages, publishing them again",
		"lost", cursor.StreamSequence-here.sequence, "sequence", here.sequence, "position", progress.Position)
	if progress.Position < saved.PurgedTo {
		return purged(progress, saved)
	}
	return nil
}

func purged(progress outbox.Progress, cursor outbox.Cursor) *outbox.Halt {
	return outbox.NewHalt(outbox.HaltLogPurged, "the stream ends at position %d, but the log begins after position %d",
		progress.Position, cursor.PurgedTo)
}

// lastOfOurs walks back from sequence to the last message that the engine wrote, but not below floor. It returns floor
// and no progress when there is none above it.
func (r *Relay) lastOfOurs(ctx context.Context, sequence, floor uint64) (uint64, outbox.Progress, error) {
	for ; sequence > floor; sequence-- {
		stamp, err := r.Publisher.At(ctx, sequence)
		if errors.Is(err, ports.ErrNoMessage) {
			return 0, outbox.Progress{}, outbox.NewHalt(outbox.HaltTailGone, "the message at sequence %d was deleted or has expired", sequence)
		}
		if err != nil {
			return 0, outbox.Progress{}, err
		}
		if stamp.Ours {
			return sequence, stamp.Progress, nil
		}
	}
	return floor, outbox.Progress{}, nil
}
