package relaying_test

import (
	"context"
	"errors"
	"time"

	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// What operators do to the world of the model: they delete the stream or make it again, they misdirect instances, and they adopt
// what there is, two at a time, slowly, and sometimes not to the end.

// remake deletes the stream; half of the time somebody makes another one at once. Its events have been delivered.
func (w *world) remake(choice int) {
	for _, entry := range w.stream.Entries() {
		w.former[entry.ID] = true
	}
	if choice%2 == 0 {
		w.stream.Drop()
	} else {
		w.stream.Recreate()
	}
}

// misdirect starts an instance that is connected to another broker. The relay's first instance must not be one: it would make
// its stream there.
func (w *world) misdirect() {
	cursor, err := w.cursors.Load(w.context())
	if err != nil || cursor.StreamCreated == "" || len(w.alive) >= 3 {
		return
	}
	w.hit("misdirected")
	w.started++
	w.join(w.startAt("misdirected", w.elsewhere))
}

// patiently adopts the stream, if the relay is halted: some time after the plan was made, and with some time between the notice
// and the cursor.
func (w *world) patiently(s step) {
	w.running.Go(func() {
		bench := &slowBench{RelayRepair: w.bench(), pause: time.Duration(s.B*4) * time.Millisecond, dies: s.C%4 == 0}
		adopter := operating.NewAdopter(bench, w.repair)
		plan, err := adopter.Plan(w.context(), nil)
		if err != nil {
			return
		}
		time.Sleep(time.Duration(s.A*4) * time.Millisecond)
		w.carryOut(adopter, plan)
	})
}

func (w *world) carryOut(adopter *operating.Adopter, plan operating.Adoption) {
	if plan.Repeats { // as the refusal says
		w.remake(0)
		return
	}
	err := adopter.Do(w.context(), plan)
	switch {
	case err == nil:
		w.hit("adopted")
		if plan.CreateStream {
			w.hit("adopted a stream that was missing")
		}
		if plan.FirstSequence > 0 && !plan.CreateStream {
			w.hit("raised a stream")
		}
	case errors.Is(err, relay.ErrTailMoved), errors.Is(err, relay.ErrOutOfTurn):
		w.hit("an adoption came too late")
	case errors.Is(err, errDead), errors.Is(err, relay.ErrStreamMissing), errors.Is(err, relay.ErrNoMessage):
	default:
		w.complain("adopt: %v", err)
	}
}

// settleDown adopts until the relay is not halted any more.
func (w *world) settleDown() {
	for range 20 {
		cursor, err := w.cursors.Load(w.context())
		if err != nil || cursor.Halt == nil {
			return
		}
		adopter := operating.NewAdopter(w.cursors, w.stream)
		if plan, err := adopter.Plan(w.context(), nil); err == nil {
			w.carryOut(adopter, plan)
		}
		time.Sleep(2 * ttl)
	}
}

// slowBench is a bench at which the operator pauses before the cursor is written, or dies there.
type slowBench struct {
	operations.RelayRepair
	pause time.Duration
	dies  bool
}

func (b *slowBench) Adopt(ctx context.Context, revision int64, cursor relay.Cursor, anew bool) error {
	if b.dies {
		return errDead
	}
	pause := b.pause
	b.pause = 0
	time.Sleep(pause)
	return b.RelayRepair.Adopt(ctx, revision, cursor, anew)
}

// The mutants of what operators do, and of what leaders do to be safe from each other.

// unconfirmed is a stream in which leaders confirm nothing: what they decide is decided in the database alone.
type unconfirmed struct{ relay.Publisher }

func (u unconfirmed) PublishControl(ctx context.Context, after uint64, notice relay.ControlMessage) (uint64, error) {
	if notice.Confirms {
		return after, nil
	}
	return u.Publisher.PublishControl(ctx, after, notice)
}

// credulous is a stream that adoptions take for the one that they planned with, whatever has happened to it.
type credulous struct{ relay.StreamRepair }

func (c credulous) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	info, err := c.StreamRepair.Open(ctx, first)
	if first > 0 {
		info.LastSequence = first - 1
	}
	return info, err
}

func (c credulous) Notify(ctx context.Context, _ uint64, notice relay.ControlMessage) (uint64, error) {
	info, err := c.Look(ctx)
	if err != nil {
		return 0, err
	}
	return c.StreamRepair.PublishControl(ctx, info.LastSequence, notice)
}

// staleBench goes on believing in the cursor that it read first.
type staleBench struct {
	operations.RelayRepair
	cursor *relay.Cursor
}

func (b *staleBench) Cursor(ctx context.Context) (relay.Cursor, error) {
	if b.cursor != nil {
		return *b.cursor, nil
	}
	cursor, err := b.RelayRepair.Cursor(ctx)
	b.cursor = &cursor
	return cursor, err
}

func (b *staleBench) Adopt(ctx context.Context, revision int64, cursor relay.Cursor, anew bool) error {
	b.cursor = nil
	return b.RelayRepair.Adopt(ctx, revision, cursor, anew)
}

// repeating is a broker that makes every stream with sequences from 1 on.
type repeating struct{ credulous }

func (r repeating) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	info, err := r.StreamRepair.Open(ctx, min(first, 1))
	if first > 0 {
		info.LastSequence = first - 1
	}
	return info, err
}

func (r repeating) Raise(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	info, err := r.Look(ctx)
	info.LastSequence = first - 1
	return info, err
}
