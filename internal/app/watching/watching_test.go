package watching_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/watching"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

var errOutage = errors.New("the database cannot be reached")

// database is what a Watcher reads. It counts the readings.
type database struct {
	operations.RelayInspector
	operations.SubscriberAdmin

	mu          sync.Mutex
	at          []time.Time // when each reading began
	status      operations.RelayStatus
	subscribers []operations.SubscriberSummary
	processes   []string
	ends        []uint64 // with which Summaries was called
	takes       time.Duration

	statusErr, summariesErr, processesErr error
}

func (d *database) Status(ctx context.Context) (operations.RelayStatus, error) {
	d.mu.Lock()
	d.at = append(d.at, time.Now())
	takes := d.takes
	d.mu.Unlock()
	select {
	case <-ctx.Done():
		return operations.RelayStatus{}, ctx.Err()
	case <-time.After(takes):
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status, d.statusErr
}

func (d *database) Summaries(_ context.Context, end uint64) ([]operations.SubscriberSummary, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ends = append(d.ends, end)
	return d.subscribers, d.summariesErr
}

func (d *database) Processes(context.Context) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.processes, d.processesErr
}

func (d *database) set(change func(d *database)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

// readings returns when readings began, as times after began.
func (d *database) readings(began time.Time) (after []time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, at := range d.at {
		after = append(after, at.Sub(began))
	}
	return after
}

// watched runs test with a Watcher that reads d, in fake time. The test fails if a goroutine is left.
func watched(t *testing.T, test func(t *testing.T, w *watching.Watcher, d *database)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &database{}
		w := watching.New(watching.Ports{Relay: d, Subscribers: d, Processes: d})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		synctest.Wait()
		test(t, w, d)
		cancel()
		synctest.Wait()
		select {
		case err := <-ended:
			require.NoError(t, err)
		default:
			t.Error("Run does not end with its context")
		}
	})
}

// sleep waits, and lets the Watcher do everything that is due by then.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestIdle checks that the state is read at once and then every half minute, if nobody watches.
func TestIdle(t *testing.T) {
	watched(t, func(t *testing.T, _ *watching.Watcher, d *database) {
		began := time.Now()
		sleep(95 * time.Second)
		require.Equal(t, []time.Duration{0, 30 * time.Second, 60 * time.Second, 90 * time.Second}, d.readings(began))
	})
}

// TestNothingIsReadBeforeRun checks that a Watcher reads nothing until Run, and that its view says so.
func TestNothingIsReadBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &database{}
		w := watching.New(watching.Ports{Relay: d, Subscribers: d, Processes: d})
		defer w.Watch()()
		sleep(time.Minute)
		view, newer := w.View()
		require.Empty(t, d.at)
		require.Zero(t, view.At)
		require.NotNil(t, newer)
	})
}

// TestWatched checks that a reading comes at once when somebody begins to watch, and then one each second. All viewers share these readings.
// When the last one ends, the readings are seldom again.
func TestWatched(t *testing.T) {
	watched(t, func(t *testing.T, w *watching.Watcher, d *database) {
		began := time.Now()
		sleep(4500 * time.Millisecond)
		first, second := w.Watch(), w.Watch()
		third := w.Watch()
		sleep(1200 * time.Millisecond)
		want := []time.Duration{0, 4500 * time.Millisecond, 5500 * time.Millisecond}
		require.Equal(t, want, d.readings(began), "three viewers cost the same as one")
		first()
		first() // ends nothing more
		second()
		sleep(time.Second)
		want = append(want, 6500*time.Millisecond)
		require.Equal(t, want, d.readings(began), "somebody still watches")
		third()
		sleep(time.Second) // the timer of the next second runs already
		want = append(want, 7500*time.Millisecond)
		require.Equal(t, want, d.readings(began))
		sleep(32 * time.Second)
		require.Equal(t, append(want, 37500*time.Millisecond), d.readings(began))
	})
}

// TestManyShortLooks checks that a page that is loaded again and again does not make the readings come more often than each second.
func TestManyShortLooks(t *testing.T) {
	watched(t, func(t *testing.T, w *watching.Watcher, d *database) {
		for range 1000 {
			w.Watch()()
			sleep(10 * time.Millisecond)
		}
		require.LessOrEqual(t, len(d.at), 12)
	})
}

// TestNewerReadings checks that the channel of a view is closed when there is a newer reading.
func TestNewerReadings(t *testing.T) {
	watched(t, func(t *testing.T, w *watching.Watcher, d *database) {
		d.set(func(d *database) { d.status.Sequence, d.processes = 7, []string{"app1", "emails-1"} })
		_, newer := w.View()
		select {
		case <-newer:
			t.Fatal("there is no newer reading yet")
		default:
		}
		began := time.Now()
		<-newer
		require.Equal(t, 30*time.Second, time.Since(began))
		view, _ := w.View()
		require.Equal(t, time.Now(), view.At)
		require.EqualValues(t, 7, view.Relay.Sequence)
		require.Equal(t, []string{"app1", "emails-1"}, view.Processes)
		require.Equal(t, []uint64{0, 7}, d.ends, "the summaries are compared with the stream's end of the same reading")
	})
}

// TestHistory checks that the points of five minutes are kept, and no older ones. A view does not change later.
func TestHistory(t *testing.T) {
	watched(t, func(t *testing.T, w *watching.Watcher, _ *database) {
		defer w.Watch()()
		sleep(time.Minute)
		early, _ := w.View()
		before := len(early.Points)
		require.Equal(t, 61, before)
		first := early.Points[0]
		sleep(20 * time.Minute)
		view, _ := w.View()
		require.Len(t, view.Points, 301)
		for _, point := range view.Points {
			require.LessOrEqual(t, view.At.Sub(point.At), watching.History)
		}
		require.Len(t, early.Points, before)
		require.Equal(t, first, early.Points[0])
	})
}

// TestRates checks the rates and the lags of a point.
func TestRates(t *testing.T) {
	watched(t, func(t *testing.T, w *watching.Watcher, d *database) {
		last := func() operations.Point {
			view, _ := w.View()
			return view.Points[len(view.Points)-1]
		}
		require.Zero(t, last().Written, "there is nothing to compare with")
		behind := uint64(12)
		d.set(func(d *database) {
			d.status = operations.RelayStatus{Stream: "S", LastPosition: 150, Sequence: 30, Unpublished: 20}
			d.subscribers = []operations.SubscriberSummary{
				{Overview: inbox.Overview{Subscriber: "emails", Rate: 2.5}, MessagesBehind: &behind},
				{Overview: inbox.Overview{Subscriber: "new"}},
			}
		})
		sleep(30 * time.Second)
		point := last()
		require.InDelta(t, 5, point.Written, 0)
		require.Zero(t, point.Published, "another stream has other sequences")
		require.EqualValues(t, 20, point.Backlog)
		require.Equal(t, map[string]uint64{"emails": 12}, point.Lags)
		require.Equal(t, map[string]float64{"emails": 2.5, "new": 0}, point.Applied)

		d.set(func(d *database) { d.status.LastPosition, d.status.Sequence = 210, 150 })
		sleep(30 * time.Second)
		require.InDelta(t, 2, last().Written, 0)
		require.InDelta(t, 4, last().Published, 0)

		d.set(func(d *database) { d.status.LastPosition, d.status.Sequence = 10, 10 }) // of a restored backup
		sleep(30 * time.Second)
		require.Zero(t, last().Written)
		require.Zero(t, last().Published)
	})
}

// TestLeaders checks that changes of the leader are kept, the newest first and only a bounded number.
func TestLeaders(t *testing.T) {
	watched(t, func(t *testing.T, w *watching.Watcher, d *database) {
		leads := func(leader *operations.Leader) {
			d.set(func(d *database) { d.status.Leader = leader })
			sleep(30 * time.Second)
		}
		began := time.Now()
		leads(&operations.Leader{Holder: "app1", Token: 1, Until: began})
		leads(&operations.Leader{Holder: "app1", Token: 1, Until: began.Add(time.Hour)}) // renewed
		leads(nil)
		leads(&operations.Leader{Holder: "app1", Token: 2})
		leads(&operations.Leader{Holder: "app2", Token: 3})
		view, _ := w.View()
		var seen []string
		for _, change := range view.Leaders {
			name := "nobody"
			if change.Leader != nil {
				name = change.Leader.Holder
			}
			seen = append(seen, change.At.Sub(began).String()+" "+name)
		}
		require.Equal(t, []string{"2m30s app2", "2m0s app1", "1m30s nobody", "30s app1", "0s nobody"}, seen)
		for token := range int64(100) {
			leads(&operations.Leader{Holder: "app3", Token: 10 + token})
		}
		view, _ = w.View()
		require.Len(t, view.Leaders, 20)
		require.EqualValues(t, 109, view.Leaders[0].Leader.Token)
	})
}

// TestOutage checks that the view keeps the last good reading while readings fail, says why they fail, and goes on afterwards.
func TestOutage(t *testing.T) {
	for name, fail := range map[string]func(d *database, err error){
		"of the relay's status": func(d *database, err error) { d.statusErr = err },
		"of the subscribers":    func(d *database, err error) { d.summariesErr = err },
		"of the processes":      func(d *database, err error) { d.processesErr = err },
	} {
		t.Run(name, func(t *testing.T) {
			watched(t, func(t *testing.T, w *watching.Watcher, d *database) {
				good, _ := w.View()
				_, newer := w.View()
				d.set(func(d *database) { d.status.LastPosition = 300; fail(d, errOutage) })
				sleep(30 * time.Second)
				select {
				case <-newer:
				default:
					t.Fatal("viewers do not learn that the reading failed")
				}
				view, _ := w.View()
				require.ErrorIs(t, view.Err, errOutage)
				require.Equal(t, good.At, view.At)
				require.Len(t, view.Points, 1)
				d.set(func(d *database) { fail(d, nil) })
				sleep(30 * time.Second)
				view, _ = w.View()
				require.NoError(t, view.Err)
				require.Equal(t, time.Now(), view.At)
				require.InDelta(t, 5, view.Points[1].Written, 0, "events in a second since the last good reading")
			})
		})
	}
}

// TestMissingRight checks that a reading has the relay and the processes if the database role may not read the subscribers. The view then has the
// reason, and no error.
func TestMissingRight(t *testing.T) {
	watched(t, func(t *testing.T, w *watching.Watcher, d *database) {
		forbidden := operations.ErrNoRight.Wrap(errors.New("permission denied for table subscribers"))
		d.set(func(d *database) { d.status.LastPosition, d.processes, d.summariesErr = 7, []string{"app1"}, forbidden })
		sleep(watching.IdleEvery)
		view, _ := w.View()
		require.NoError(t, view.Err)
		require.Equal(t, forbidden, view.Unreadable)
		require.EqualValues(t, 7, view.Relay.LastPosition)
		require.Equal(t, []string{"app1"}, view.Processes)
		d.set(func(d *database) {
			d.summariesErr, d.subscribers = nil, []operations.SubscriberSummary{{Overview: inbox.Overview{Subscriber: "emails"}}}
		})
		sleep(watching.IdleEvery)
		view, _ = w.View()
		require.NoError(t, view.Unreadable)
		require.Len(t, view.Subscribers, 1)
	})
}

// TestSlowReadings checks that the next reading comes later if a reading takes long, and that a reading that hangs is given up.
func TestSlowReadings(t *testing.T) {
	watched(t, func(t *testing.T, w *watching.Watcher, d *database) {
		defer w.Watch()()
		d.set(func(d *database) { d.takes = 2 * time.Second })
		began := time.Now()
		sleep(50 * time.Second)
		require.Equal(t, []time.Duration{33 * time.Second, 41 * time.Second, 49 * time.Second}, d.readings(began)[len(d.at)-3:], "the pause is three times as long as the reading")
		d.set(func(d *database) { d.takes = time.Hour })
		sleep(30 * time.Second)
		view, _ := w.View()
		require.ErrorIs(t, view.Err, context.DeadlineExceeded)
	})
}

// TestRunEndsDuringAReading checks that Run ends when its context ends, also while a reading hangs.
func TestRunEndsDuringAReading(t *testing.T) {
	watched(t, func(_ *testing.T, _ *watching.Watcher, d *database) {
		d.set(func(d *database) { d.takes = time.Hour })
		sleep(31 * time.Second)
	})
}
