package relaying_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TestMisdirectedInstance connects one instance of three to another broker. It leads first, and halts: the others deliver, it
// says why it does not, and leadership stays where it is.
func TestMisdirectedInstance(t *testing.T) {
	for name, elsewhere := range map[relay.HaltReason]func(*memory.Stream){
		relay.HaltStreamMissing:  func(*memory.Stream) {},
		relay.HaltStreamReplaced: (*memory.Stream).Recreate,
	} {
		t.Run(string(name), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				leader := w.run("leader")
				w.record(t, 3)
				time.Sleep(2 * time.Second)
				leader.crash()
				w.leave(leader)

				wrong := memory.NewOtherStream()
				elsewhere(wrong)
				misdirected := w.startAt("misdirected", wrong)
				w.join(misdirected)
				time.Sleep(ttl + time.Second) // it leads, and halts
				require.Equal(t, name, misdirected.relay.Status().Halt.Reason)
				correct := []*instance{w.run("correct-1"), w.run("correct-2")}
				w.record(t, 1)
				time.Sleep(time.Second)
				require.Len(t, w.stream.Entries(), 4)

				_, token := w.lease.Holder()
				for range 60 {
					time.Sleep(time.Minute)
					w.record(t, 1)
				}
				require.Len(t, w.stream.Entries(), 64)
				_, now := w.lease.Holder()
				require.Equal(t, token, now, "nobody else has led")
				cursor, err := w.cursors.Load(t.Context())
				require.NoError(t, err)
				require.Nil(t, cursor.Halt)
				require.Equal(t, relaying.Halted, misdirected.relay.Status().State)
				require.Len(t, w.halts.Reported(), 1)
				require.Equal(t, "misdirected", w.halts.Reported()[0].Instance)
				require.Equal(t, name, w.halts.Reported()[0].Reason)
				require.Empty(t, wrong.Entries())

				// When it is the only one that is left, it still does not lead; and its report goes with it.
				for _, instance := range correct {
					instance.crash()
					w.leave(instance)
				}
				time.Sleep(time.Minute)
				require.NotNil(t, misdirected.relay.Status().Halt)
				misdirected.cancel()
				time.Sleep(time.Second)
				require.Empty(t, w.halts.Reported())
			})
		})
	}
}

// TestHaltThatComesBackRestsLonger bounds how often leadership changes for a halt that always seems to be over.
func TestHaltThatComesBackRestsLonger(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		w.record(t, 3)
		time.Sleep(2 * time.Second)
		leader.crash()
		w.leave(leader)
		w.publisher = fickle{w.publisher}
		first, second := w.run("first"), w.run("second")
		time.Sleep(10 * time.Minute) // the rests have become a minute
		before := first.relay.Status().Elections + second.relay.Status().Elections
		const minutes = 60
		time.Sleep(minutes * time.Minute)
		changes := first.relay.Status().Elections + second.relay.Status().Elections - before
		require.LessOrEqual(t, changes, int64(2*minutes), "at most one a minute for each instance")
		require.NotZero(t, changes)
	})
}

// fickle is a stream that is gone whenever it is opened, and there whenever it is looked at.
type fickle struct{ relay.Publisher }

func (fickle) Open(context.Context, uint64) (relay.StreamInfo, error) {
	return relay.StreamInfo{}, relay.ErrStreamMissing
}

// tenacious keeps a lease that is to be given back, for as long as its instance lives.
type tenacious struct {
	relay.Elector
	ctx     context.Context
	running *sync.WaitGroup
}

func (e *tenacious) Resign(_ context.Context, term relay.Term) error {
	e.running.Go(func() {
		for e.ctx.Err() == nil {
			if _, err := e.Renew(context.WithoutCancel(e.ctx), term); err != nil {
				return
			}
			select {
			case <-e.ctx.Done():
			case <-time.After(ttl / 4):
			}
		}
	})
	return nil
}
