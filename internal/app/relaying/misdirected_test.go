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

// TestMisdirectedInstance checks that an instance at the wrong broker halts and says why, and that the other instances deliver and keep
// the leadership. The misdirected instance leads first.
func TestMisdirectedInstance(t *testing.T) {
	for name, elsewhere := range map[relay.HaltReason]func(*memory.Stream){
		relay.HaltStreamMissing:  func(*memory.Stream) {},
		relay.HaltStreamReplaced: (*memory.Stream).Recreate,
	} {
		t.Run(string(name), func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, h *harness) {
				leader := h.run("leader")
				h.record(t, 3)
				time.Sleep(2 * time.Second)
				leader.crash()
				h.leave(leader)

				wrong := memory.NewOtherStream()
				elsewhere(wrong)
				misdirected := h.startAt("misdirected", wrong)
				h.join(misdirected)
				time.Sleep(ttl + time.Second) // it leads, and halts
				require.Equal(t, name, misdirected.relay.Status().Halt.Reason)
				correct := []*instance{h.run("correct-1"), h.run("correct-2")}
				h.record(t, 1)
				time.Sleep(time.Second)
				require.Len(t, h.stream.Entries(), 4)

				_, token := h.lease.Holder()
				for range 60 {
					time.Sleep(time.Minute)
					h.record(t, 1)
				}
				require.Len(t, h.stream.Entries(), 64)
				_, now := h.lease.Holder()
				require.Equal(t, token, now, "nobody else has led")
				cursor, err := h.cursors.Load(t.Context())
				require.NoError(t, err)
				require.Nil(t, cursor.Halt)
				require.Equal(t, relaying.Halted, misdirected.relay.Status().State)
				require.Len(t, h.halts.Reported(), 1)
				require.Equal(t, "misdirected", h.halts.Reported()[0].Instance)
				require.Equal(t, name, h.halts.Reported()[0].Reason)
				require.Empty(t, wrong.Entries())

				// When it is the only instance left, it still does not lead. When it stops, its report goes away.
				for _, instance := range correct {
					instance.crash()
					h.leave(instance)
				}
				time.Sleep(time.Minute)
				require.NotNil(t, misdirected.relay.Status().Halt)
				misdirected.cancel()
				time.Sleep(time.Second)
				require.Empty(t, h.halts.Reported())
			})
		})
	}
}

// TestHaltThatComesBackRestsLonger checks that each instance takes the lease at most once a minute if its halt comes back each time.
func TestHaltThatComesBackRestsLonger(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		h.record(t, 3)
		time.Sleep(2 * time.Second)
		leader.crash()
		h.leave(leader)
		h.publisher = flappingStream{h.publisher}
		first, second := h.run("first"), h.run("second")
		time.Sleep(10 * time.Minute) // until the pauses are a minute long
		before := first.relay.Status().Elections + second.relay.Status().Elections
		const minutes = 60
		time.Sleep(minutes * time.Minute)
		changes := first.relay.Status().Elections + second.relay.Status().Elections - before
		require.LessOrEqual(t, changes, int64(2*minutes), "at most one a minute for each instance")
		require.NotZero(t, changes)
	})
}

// flappingStream is a stream that is missing for Open, and there for Look.
type flappingStream struct{ relay.Publisher }

func (flappingStream) Open(context.Context, uint64) (relay.StreamInfo, error) {
	return relay.StreamInfo{}, relay.ErrStreamMissing
}

// stickyElector keeps the lease: it renews the lease even after Resign, while its instance lives.
type stickyElector struct {
	relay.Elector
	ctx     context.Context
	running *sync.WaitGroup
}

func (e *stickyElector) Resign(_ context.Context, term relay.Term) error {
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
