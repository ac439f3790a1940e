package telemetry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// driven is a fake of all ports of a relay. Its calls fail while an error is set.
type driven struct {
	stream
	takes  time.Duration // how long the next read of the log takes
	err    error         // the error of all calls but the appends to the stream
	cursor relay.Cursor
	gone   int64 // the token with which Acquire was called last
}

func (d *driven) Verify(context.Context, outbox.Progress, uint64) (bool, error) { return false, d.err }

func (d *driven) After(context.Context, outbox.Progress, relay.ReadLimit) (relay.Page, error) {
	time.Sleep(d.takes)
	return relay.Page{}, d.err
}

func (d *driven) Load(context.Context) (relay.Cursor, error) { return d.cursor, d.err }

func (d *driven) Save(_ context.Context, _ relay.WriteFence, c relay.Cursor) (relay.Cursor, error) {
	return c, d.err
}

func (d *driven) Report(_ context.Context, _ relay.WriteFence, halt *relay.Halt) error {
	if d.err == nil {
		d.cursor.Halt = halt
	}
	return d.err
}

func (d *driven) Open(context.Context, uint64) (relay.StreamInfo, error) {
	return relay.StreamInfo{}, d.err
}

func (d *driven) Look(context.Context) (relay.StreamInfo, error) { return relay.StreamInfo{}, d.err }

func (d *driven) At(context.Context, uint64) (relay.MessageMeta, error) {
	return relay.MessageMeta{}, d.err
}

func (d *driven) Acquire(_ context.Context, gone int64) (relay.Term, error) {
	d.gone = gone
	return relay.Term{Token: 7}, d.err
}
func (d *driven) Resign(context.Context, relay.Term) error { return d.err }
func (d *driven) Renew(_ context.Context, t relay.Term) (relay.Term, error) {
	return t, d.err
}

func traceRelay(d *driven) (telemetry.RelayPorts, recorded) {
	tp, spans := record()
	return telemetry.TraceRelay(tp, "ORDERS", source, telemetry.RelayPorts{Log: d, Cursors: d, Publisher: d, Elector: d}), spans
}

// incidentsOf publishes a message that was recorded at recordedAt, and returns the incidents in its "outbox relay" span.
func incidentsOf(t *testing.T, ports telemetry.RelayPorts, spans recorded, recordedAt time.Time) []sdktrace.Event {
	t.Helper()
	before := len(spans.all("outbox relay"))
	batch := batchOf(sampledHeaders())
	batch[0].RecordedAt = recordedAt
	_, err := ports.Publisher.Publish(t.Context(), 0, batch)
	require.NoError(t, err)
	relayed := spans.all("outbox relay")
	require.Len(t, relayed, before+1)
	return relayed[before].Events()
}

func namesOf(events []sdktrace.Event) []string {
	names := []string{}
	for _, event := range events {
		names = append(names, event.Name)
	}
	return names
}

func eventAttributes(event sdktrace.Event) map[string]any {
	read := make(map[string]any)
	for _, attr := range event.Attributes {
		read[string(attr.Key)] = attr.Value.AsInterface()
	}
	return read
}

// TestWhyAnEventWasLate checks that the order's trace names the incidents that delayed its event.
func TestWhyAnEventWasLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &driven{}
		traced, spans := traceRelay(d)
		ctx := t.Context()
		recordedAt := time.Now()

		d.takes = 200 * time.Millisecond
		_, err := traced.Log.After(ctx, outbox.Progress{}, relay.ReadLimit{})
		require.NoError(t, err)
		time.Sleep(time.Second)
		_, err = traced.Elector.Acquire(ctx, 0)
		require.NoError(t, err)
		d.stream.err = errDown
		for range 3 {
			time.Sleep(time.Second)
			_, err = traced.Publisher.Publish(ctx, 0, batchOf(nil))
			require.ErrorIs(t, err, errDown)
		}
		d.err = errDown
		_, err = traced.Publisher.Open(ctx, 0)
		require.ErrorIs(t, err, errDown)
		_, err = traced.Cursors.Load(ctx)
		require.ErrorIs(t, err, errDown)
		_, err = traced.Log.After(ctx, outbox.Progress{}, relay.ReadLimit{})
		require.ErrorIs(t, err, errDown)
		d.err, d.stream.err = nil, nil

		events := incidentsOf(t, traced, spans, recordedAt)
		require.Equal(t, []string{
			"log waited", "became leader", "publish failed", "stream failed", "cursor failed", "log failed",
		}, namesOf(events))
		require.Equal(t, recordedAt, events[0].Time)
		require.InDelta(t, 0.2, eventAttributes(events[0])["outboxie.lasted"], 0.001)
		require.EqualValues(t, 7, eventAttributes(events[1])["outboxie.lease.token"])
		require.Equal(t, map[string]any{
			"error.type": "database_down", "outboxie.detail": errDown.Error(), "outboxie.times": int64(3), "outboxie.lasted": 2.0,
		}, eventAttributes(events[2]))
		require.Equal(t, recordedAt.Add(2200*time.Millisecond), events[2].Time)

		events = incidentsOf(t, traced, spans, recordedAt.Add(3*time.Second))
		require.Equal(t, "publish failed", events[0].Name, "what was over when it was recorded did not hold it up")
		require.Equal(t, recordedAt.Add(3*time.Second), events[0].Time, "nothing happened before the span began")
		time.Sleep(time.Second)
		require.Empty(t, incidentsOf(t, traced, spans, time.Now()))
	})
}

// TestHistoryIsBounded checks that an outage of any length is one incident, and that at most 32 incidents are kept.
func TestHistoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &driven{}
		traced, spans := traceRelay(d)
		recordedAt := time.Now()
		for range 100 {
			for _, trouble := range []error{errDown, errors.New("other")} {
				d.err = trouble
				_, err := traced.Publisher.Look(t.Context())
				require.Error(t, err)
			}
		}
		require.Len(t, incidentsOf(t, traced, spans, recordedAt), 32)
		for range 10_000 {
			_, err := traced.Publisher.Look(t.Context())
			require.Error(t, err)
			time.Sleep(500 * time.Millisecond)
		}
		events := incidentsOf(t, traced, spans, recordedAt)
		require.Len(t, events, 32)
		require.EqualValues(t, 10_001, eventAttributes(events[31])["outboxie.times"])
		require.InDelta(t, 5000, eventAttributes(events[31])["outboxie.lasted"], 1)

		time.Sleep(time.Minute)
		_, err := traced.Publisher.Look(t.Context())
		require.Error(t, err)
		events = incidentsOf(t, traced, spans, time.Now())
		require.Len(t, events, 1)
		require.EqualValues(t, 1, eventAttributes(events[0])["outboxie.times"], "long after, it is another one")
	})
}

// TestAnswersAreNoTrouble checks that expected answers, and failures because the relay stops, are not recorded as incidents.
func TestAnswersAreNoTrouble(t *testing.T) {
	d := &driven{}
	traced, spans := traceRelay(d)
	recordedAt := time.Now().Add(-time.Hour)
	for _, answer := range []error{relay.ErrLeaseHeld, relay.ErrNoMessage, relay.ErrStreamMissing, relay.ErrStaleRevision} {
		d.err = answer
		callAll(t.Context(), traced)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	d.err, d.stream.err = errDown, errDown
	callAll(ended, traced)
	_, err := traced.Publisher.Publish(ended, 0, batchOf(nil))
	require.ErrorIs(t, err, errDown)
	d.err, d.stream.err = nil, &relay.RefusedError{Reason: "too large"}
	_, err = traced.Publisher.Publish(t.Context(), 0, batchOf(nil))
	require.Error(t, err)
	require.Empty(t, spans.names())
	d.stream.err = nil
	require.Empty(t, incidentsOf(t, traced, spans, recordedAt))

	d.stream.err = relay.ErrTailMoved // an expected answer, too, but it delays the event by another try
	_, err = traced.Publisher.Publish(t.Context(), 0, batchOf(nil))
	require.ErrorIs(t, err, relay.ErrTailMoved)
	d.stream.err = nil
	require.Equal(t, []string{"publish failed"}, namesOf(incidentsOf(t, traced, spans, recordedAt)))
}

func callAll(ctx context.Context, ports telemetry.RelayPorts) {
	_, _ = ports.Log.After(ctx, outbox.Progress{}, relay.ReadLimit{})
	_, _ = ports.Cursors.Load(ctx)
	_, _ = ports.Cursors.Save(ctx, relay.WriteFence{}, relay.Cursor{})
	_ = ports.Cursors.Report(ctx, relay.WriteFence{}, relay.NewHalt(relay.HaltTailGone, "gone"))
	_, _ = ports.Publisher.Open(ctx, 1)
	_, _ = ports.Publisher.Look(ctx)
	_, _ = ports.Publisher.At(ctx, 1)
	_, _ = ports.Elector.Acquire(ctx, 0)
	_, _ = ports.Elector.Renew(ctx, relay.Term{})
	_ = ports.Elector.Resign(ctx, relay.Term{})
}

// TestLeadershipIsTraced checks that each change of leadership is its own trace. Failed tries to lead, and renewals, make no
// span.
func TestLeadershipIsTraced(t *testing.T) {
	d := &driven{err: relay.ErrLeaseHeld}
	traced, spans := traceRelay(d)
	_, err := traced.Elector.Acquire(t.Context(), 0)
	require.ErrorIs(t, err, relay.ErrLeaseHeld)
	d.err = nil
	term, err := traced.Elector.Acquire(t.Context(), 6)
	require.NoError(t, err)
	require.EqualValues(t, 6, d.gone)
	_, err = traced.Elector.Renew(t.Context(), term)
	require.NoError(t, err)
	require.Equal(t, []string{"became leader"}, spans.names())
	leader := spans.one(t, "became leader")
	require.False(t, leader.Parent().IsValid())
	require.Equal(t, map[string]any{
		"outboxie.relay.name": "ORDERS", "outboxie.lease.token": int64(7), "outboxie.detail": "",
	}, attributesOf(leader))

	d.err = relay.ErrLeaseLost
	_, err = traced.Elector.Renew(t.Context(), term)
	require.ErrorIs(t, err, relay.ErrLeaseLost)
	d.err = nil
	require.NoError(t, traced.Elector.Resign(t.Context(), term))
	lost := spans.all("lost leadership")
	require.Len(t, lost, 2)
	require.Equal(t, relay.ErrLeaseLost.Error(), attributeOf(lost[0], "outboxie.detail"))
	require.Equal(t, "resigned", attributeOf(lost[1], "outboxie.detail"))
}

// TestHaltsAreTraced checks that a halt and its end make one trace each, however often the relay looks. The relay may report the halt or find
// it in the cursor, and the relay or an operator may end it. Events that wait during the halt show both as incidents.
func TestHaltsAreTraced(t *testing.T) {
	halt := relay.NewHalt(relay.HaltTailGone, "the message at sequence 8 is gone")
	for name, c := range map[string]struct {
		begin, end func(telemetry.RelayPorts, *driven) error
	}{
		"reported, and reported to be over": {
			begin: func(r telemetry.RelayPorts, _ *driven) error {
				return r.Cursors.Report(context.Background(), relay.WriteFence{}, halt)
			},
			end: func(r telemetry.RelayPorts, _ *driven) error {
				return r.Cursors.Report(context.Background(), relay.WriteFence{}, nil)
			},
		},
		"inherited, and ended by an operator": {
			begin: func(_ telemetry.RelayPorts, d *driven) error { d.cursor.Halt = halt; return nil },
			end:   func(_ telemetry.RelayPorts, d *driven) error { d.cursor.Halt = nil; return nil },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &driven{}
				traced, spans := traceRelay(d)
				load := func() {
					_, err := traced.Cursors.Load(t.Context())
					require.NoError(t, err)
				}
				load()
				recordedAt := time.Now()
				require.NoError(t, c.begin(traced, d))
				for range 20 {
					load()
					time.Sleep(500 * time.Millisecond)
				}
				require.Equal(t, []string{"relay halted"}, spans.names())
				halted := spans.one(t, "relay halted")
				require.Equal(t, codes.Error, halted.Status().Code)
				require.Equal(t, "tail_gone", attributeOf(halted, "outboxie.halt.reason"))
				require.Equal(t, halt.Detail, attributeOf(halted, "outboxie.detail"))

				require.NoError(t, c.end(traced, d))
				load()
				require.Equal(t, []string{"relay halted", "relay resumed"}, spans.names())
				require.Equal(t, "tail_gone", attributeOf(spans.one(t, "relay resumed"), "outboxie.halt.reason"))
				events := incidentsOf(t, traced, spans, recordedAt)
				require.Equal(t, []string{"relay halted", "relay resumed"}, namesOf(events))
				require.Equal(t, halt.Detail, eventAttributes(events[0])["outboxie.detail"])
				require.InDelta(t, 9.5, eventAttributes(events[0])["outboxie.lasted"], 0.1)
			})
		})
	}
}

// TestNothingIsTracedWhereNothingIsRecorded checks that the ports are not wrapped if the provider records nothing.
func TestNothingIsTracedWhereNothingIsRecorded(t *testing.T) {
	d := &driven{}
	untraced := telemetry.RelayPorts{Log: d, Cursors: d, Publisher: d, Elector: d}
	require.Equal(t, untraced, telemetry.TraceRelay(noop.NewTracerProvider(), "ORDERS", source, untraced))
}

// TestLongBatchShowsNoLaterIncidents checks that the spans of a long batch do not show incidents that happen after the
// batch was published.
func TestLongBatchShowsNoLaterIncidents(t *testing.T) {
	d := &driven{}
	traced, spans := traceRelay(d)
	headers := make([]map[string]string, 1000)
	for i := range headers {
		headers[i] = sampledHeaders()
	}
	_, err := traced.Publisher.Publish(t.Context(), 0, batchOf(headers...))
	require.NoError(t, err)
	d.err = errDown
	for range 100 {
		_, err = traced.Publisher.Look(t.Context())
		require.ErrorIs(t, err, errDown)
	}
	d.err = nil
	require.NoError(t, traced.Elector.Resign(t.Context(), relay.Term{}))
	waits := spans.all("outbox relay")
	require.Len(t, waits, 1000)
	for _, wait := range waits {
		require.Empty(t, wait.Events())
	}
}
