package relaying_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

func (i *instance) After(ctx context.Context, p outbox.Progress, s relay.ReadLimit) (relay.Page, error) {
	return call(ctx, i, "After", func(ctx context.Context) (relay.Page, error) { return i.inner.Log.After(ctx, p, s) })
}

func (i *instance) Verify(ctx context.Context, reached outbox.Progress, sequence uint64) (bool, error) {
	return call(ctx, i, "Verify", func(ctx context.Context) (bool, error) { return i.inner.Log.Verify(ctx, reached, sequence) })
}

func (i *instance) Load(ctx context.Context) (relay.Cursor, error) {
	return call(ctx, i, "Load", i.inner.Cursors.Load)
}

func (i *instance) Save(ctx context.Context, t relay.WriteFence, c relay.Cursor) (relay.Cursor, error) {
	return write(ctx, i, "Save", func(ctx context.Context) (relay.Cursor, error) { return i.inner.Cursors.Save(ctx, t, c) })
}

func (i *instance) Report(ctx context.Context, t relay.WriteFence, h *relay.Halt) error {
	_, err := write(ctx, i, "Report", func(ctx context.Context) (nothing, error) { return nothing{}, i.inner.Cursors.Report(ctx, t, h) })
	return err
}

func (i *instance) Record(ctx context.Context, h *relay.Halt) error {
	_, err := call(ctx, i, "Record", func(ctx context.Context) (nothing, error) { return nothing{}, i.inner.Halts.Record(ctx, h) })
	return err
}

func (i *instance) Reconcile(
	ctx context.Context, t relay.WriteFence, tail relay.MessageMeta, sequence uint64, end bool,
) (relay.ParkingSummary, error) {
	return write(ctx, i, "Reconcile", func(ctx context.Context) (relay.ParkingSummary, error) {
		return i.inner.Parking.Reconcile(ctx, t, tail, sequence, end)
	})
}

func (i *instance) SetAside(ctx context.Context, t relay.WriteFence, entries []outbox.Entry) ([]outbox.Position, error) {
	return write(ctx, i, "SetAside", func(ctx context.Context) ([]outbox.Position, error) {
		return i.inner.Parking.SetAside(ctx, t, entries)
	})
}

func (i *instance) Due(ctx context.Context, p outbox.Position, s relay.ReadLimit) ([]outbox.Entry, bool, error) {
	type found struct {
		due     []outbox.Entry
		waiting bool
	}
	answer, err := call(ctx, i, "Due", func(ctx context.Context) (found, error) {
		due, waiting, err := i.inner.Parking.Due(ctx, p, s)
		return found{due, waiting}, err
	})
	return answer.due, answer.waiting, err
}

func (i *instance) Refuse(ctx context.Context, t relay.WriteFence, e outbox.Entry, reason string) error {
	_, err := write(ctx, i, "Refuse", func(ctx context.Context) (nothing, error) {
		return nothing{}, i.inner.Parking.Refuse(ctx, t, e, reason)
	})
	return err
}

func (i *instance) Purge(ctx context.Context, token int64, age time.Duration, limit int) (int, error) {
	removed, err := call(ctx, i, "Purge", func(ctx context.Context) (int, error) {
		removed, err := i.inner.Retention.Purge(ctx, token, age, limit)
		if removed > 0 {
			i.harness.hit("purged")
		}
		return removed, err
	})
	return removed, err
}

// write does the same as call, for a fenced write.
func write[T any](ctx context.Context, i *instance, method string, request func(context.Context) (T, error)) (T, error) {
	return call(ctx, i, method, func(ctx context.Context) (T, error) {
		answer, err := request(ctx)
		if errors.Is(err, relay.ErrStaleRevision) {
			i.harness.hit("stale revision")
		}
		return answer, err
	})
}

// Open remembers how often the broker was restarted, so that send refuses an append over an older connection.
func (i *instance) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	restarts := i.stream.Restarts()
	info, err := call(ctx, i, "Open", func(ctx context.Context) (relay.StreamInfo, error) {
		return i.info(i.inner.Publisher.Open(ctx, first))
	})
	i.restarts = restarts
	return info, err
}

func (i *instance) Look(ctx context.Context) (relay.StreamInfo, error) {
	i.mu.Lock()
	widens := i.widens
	i.mu.Unlock()
	if widens {
		i.narrow(0)
	}
	return call(ctx, i, "Look", func(ctx context.Context) (relay.StreamInfo, error) { return i.info(i.inner.Publisher.Look(ctx)) })
}

func (i *instance) At(ctx context.Context, sequence uint64) (relay.MessageMeta, error) {
	return call(ctx, i, "At", func(ctx context.Context) (relay.MessageMeta, error) {
		if sequence > i.known() {
			return relay.MessageMeta{}, relay.ErrNoMessage
		}
		return i.inner.Publisher.At(ctx, sequence)
	})
}

func (i *instance) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	return i.send(ctx, "Publish", after, func(ctx context.Context) (uint64, error) {
		return i.limited(batch, func(batch []outbox.Entry) (uint64, error) { return i.inner.Publisher.Publish(ctx, after, batch) })
	})
}

func (i *instance) Redrive(ctx context.Context, after uint64, at outbox.Progress, batch []outbox.Entry) (uint64, error) {
	return i.send(ctx, "Redrive", after, func(ctx context.Context) (uint64, error) {
		return i.limited(batch, func(batch []outbox.Entry) (uint64, error) {
			return i.inner.Publisher.Redrive(ctx, after, at, batch)
		})
	})
}

// limited stores the entries before the first one that the instance's server refuses.
func (i *instance) limited(batch []outbox.Entry, store func([]outbox.Entry) (uint64, error)) (uint64, error) {
	taken, refused := i.accepted(batch)
	last, err := store(batch[:taken])
	if err == nil {
		err = refused
	}
	return last, err
}

func (i *instance) PublishControl(ctx context.Context, after uint64, notice relay.ControlMessage) (uint64, error) {
	return i.send(ctx, "PublishControl", after, func(ctx context.Context) (uint64, error) {
		return i.inner.Publisher.PublishControl(ctx, after, notice)
	})
}

// send makes an append over the connection of the last Open. A restart of the broker ends that connection.
func (i *instance) send(ctx context.Context, method string, after uint64, request func(context.Context) (uint64, error)) (uint64, error) {
	connection := i.restarts
	last, err := call(ctx, i, method, func(ctx context.Context) (uint64, error) {
		if i.stream.Restarts() != connection {
			return after, relay.ErrTailMoved
		}
		last, err := request(ctx)
		var refused *relay.RefusedError
		if errors.As(err, &refused) {
			i.harness.hit("refused")
		}
		return last, err
	})
	if errors.Is(err, relay.ErrTailMoved) {
		i.harness.hit("conflict")
	}
	return max(last, after), err
}

// Acquire gives each instance the holder's term if the harness is leaseless.
func (i *instance) Acquire(ctx context.Context, gone int64) (relay.Term, error) {
	return call(ctx, i, "Acquire", func(ctx context.Context) (relay.Term, error) {
		term, err := i.inner.Elector.Acquire(ctx, gone)
		if err == nil && gone != 0 {
			i.harness.hit("took a lease before it ended")
		}
		if _, token := i.harness.lease.Holder(); i.harness.leaseless && err != nil {
			i.harness.hit("second leader")
			return relay.Term{Token: token, Deadline: time.Now().Add(ttl)}, nil
		}
		return term, err
	})
}

func (i *instance) Renew(ctx context.Context, t relay.Term) (relay.Term, error) {
	return call(ctx, i, "Renew", func(ctx context.Context) (relay.Term, error) { return i.inner.Elector.Renew(ctx, t) })
}

func (i *instance) Resign(ctx context.Context, t relay.Term) error {
	_, err := call(ctx, i, "Resign", func(ctx context.Context) (nothing, error) { return nothing{}, i.inner.Elector.Resign(ctx, t) })
	return err
}

// Announce can fail, can be late, and can outlast its withdrawal.
func (i *instance) Announce(token int64) (withdraw func()) {
	withdraw, err := call(context.Background(), i, "Announce", func(context.Context) (func(), error) {
		return i.inner.Liveness.Announce(token), nil
	})
	if err != nil || i.harness.keepsLease {
		return func() {}
	}
	return withdraw
}

func (i *instance) Probe(ctx context.Context, token int64) relay.ProbeResult {
	result, err := call(ctx, i, "Probe", func(ctx context.Context) (relay.ProbeResult, error) {
		result := i.inner.Liveness.Probe(ctx, token)
		i.mu.Lock()
		defer i.mu.Unlock()
		if time.Now().Before(i.wrong.until) {
			i.harness.hit(fmt.Sprintf("misled: the leader is gone: %t", i.wrong.gone))
			result.Gone = i.wrong.gone
		}
		return result, nil
	})
	if err != nil {
		return relay.ProbeResult{Session: result.Session}
	}
	return result
}

// Notify wakes every instance.
func (i *instance) Notify() {
	for _, other := range i.harness.instances() {
		other.notifier.Notify()
	}
}
