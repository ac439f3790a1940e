package relaying_test

import (
	"context"
	"errors"
	"time"

	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// The actions of operators in the model. They delete or recreate the stream, connect instances to the wrong broker, and adopt streams:
// several at once, slowly, and sometimes not to the end.

// remake deletes the stream. The events of the stream count as delivered. Half of the time remake creates another stream at once.
func (h *harness) remake(choice int) {
	for _, entry := range h.stream.Entries() {
		h.delivered[entry.ID] = true
	}
	if choice%2 == 0 {
		h.stream.Drop()
	} else {
		h.stream.Recreate()
	}
}

// misdirect starts an instance that is connected to another broker. It does nothing before the first take-over: such an instance would
// create the stream there.
func (h *harness) misdirect() {
	cursor, err := h.cursors.Load(h.context())
	if err != nil || cursor.StreamCreated == "" || len(h.alive) >= 3 {
		return
	}
	h.hit("misdirected")
	h.started++
	h.join(h.startAt("misdirected", h.elsewhere))
}

// adoptSlowly adopts the stream if the relay is halted. It pauses after the plan, and between the control message and the cursor.
func (h *harness) adoptSlowly(s step) {
	h.running.Go(func() {
		repair := &slowRepair{RelayRepair: h.relayRepair(), pause: time.Duration(s.B*4) * time.Millisecond, dies: s.C%4 == 0}
		adopter := operating.NewAdopter(repair, h.streamRepair)
		plan, err := adopter.Plan(h.context(), nil)
		if err != nil {
			return
		}
		time.Sleep(time.Duration(s.A*4) * time.Millisecond)
		h.carryOut(adopter, plan)
	})
}

func (h *harness) carryOut(adopter *operating.Adopter, plan operating.Adoption) {
	if plan.Repeats { // this is what the refusal advises
		h.remake(0)
		return
	}
	err := adopter.Do(h.context(), plan)
	switch {
	case err == nil:
		h.hit("adopted")
		if plan.CreateStream {
			h.hit("adopted a stream that was missing")
		}
		if plan.FirstSequence > 0 && !plan.CreateStream {
			h.hit("raised a stream")
		}
	case errors.Is(err, relay.ErrTailMoved), errors.Is(err, relay.ErrStaleRevision):
		h.hit("an adoption came too late")
	case errors.Is(err, errDead), errors.Is(err, relay.ErrStreamMissing), errors.Is(err, relay.ErrNoMessage):
	default:
		h.complain("adopt: %v", err)
	}
}

// adoptUntilHealthy adopts until the relay is not halted any more.
func (h *harness) adoptUntilHealthy() {
	for range 20 {
		cursor, err := h.cursors.Load(h.context())
		if err != nil || cursor.Halt == nil {
			return
		}
		adopter := operating.NewAdopter(h.cursors, h.stream)
		if plan, err := adopter.Plan(h.context(), nil); err == nil {
			h.carryOut(adopter, plan)
		}
		time.Sleep(2 * ttl)
	}
}

// slowRepair pauses before it writes the cursor, or dies there.
type slowRepair struct {
	operations.RelayRepair
	pause time.Duration
	dies  bool
}

func (b *slowRepair) Adopt(ctx context.Context, revision int64, cursor relay.Cursor, newStream bool) error {
	if b.dies {
		return errDead
	}
	pause := b.pause
	b.pause = 0
	time.Sleep(pause)
	return b.RelayRepair.Adopt(ctx, revision, cursor, newStream)
}

// The types below are broken ports, for mutants of adoptions and of control messages.

// withoutConfirmations is a stream that drops the control messages that only confirm its end.
type withoutConfirmations struct{ relay.Publisher }

func (u withoutConfirmations) PublishControl(ctx context.Context, after uint64, notice relay.ControlMessage) (uint64, error) {
	if notice.Confirms {
		return after, nil
	}
	return u.Publisher.PublishControl(ctx, after, notice)
}

// uncheckedStream lets an adoption believe that the stream has not changed since its plan.
type uncheckedStream struct{ relay.StreamRepair }

func (c uncheckedStream) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	info, err := c.StreamRepair.Open(ctx, first)
	if first > 0 {
		info.LastSequence = first - 1
	}
	return info, err
}

func (c uncheckedStream) PublishControl(ctx context.Context, _ uint64, notice relay.ControlMessage) (uint64, error) {
	info, err := c.Look(ctx)
	if err != nil {
		return 0, err
	}
	return c.StreamRepair.PublishControl(ctx, info.LastSequence, notice)
}

// staleRepair returns the cursor that was read first, even if it has changed since.
type staleRepair struct {
	operations.RelayRepair
	cursor *relay.Cursor
}

func (b *staleRepair) Cursor(ctx context.Context) (relay.Cursor, error) {
	if b.cursor != nil {
		return *b.cursor, nil
	}
	cursor, err := b.RelayRepair.Cursor(ctx)
	b.cursor = &cursor
	return cursor, err
}

func (b *staleRepair) Adopt(ctx context.Context, revision int64, cursor relay.Cursor, newStream bool) error {
	b.cursor = nil
	return b.RelayRepair.Adopt(ctx, revision, cursor, newStream)
}

// repeatedSequences is a broker that creates each stream with sequences from 1 on.
type repeatedSequences struct{ uncheckedStream }

func (r repeatedSequences) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	info, err := r.StreamRepair.Open(ctx, min(first, 1))
	if first > 0 {
		info.LastSequence = first - 1
	}
	return info, err
}

func (r repeatedSequences) Raise(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	info, err := r.Look(ctx)
	info.LastSequence = first - 1
	return info, err
}
