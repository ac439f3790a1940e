package jetstream_test

import (
	"context"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

type oddConsumer = odd[natsjs.ConsumerConfig]

var (
	someTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	later    = time.Now().Add(time.Hour)
)

// oddConsumers has one or more values of each setting of a consumer.
var oddConsumers = []oddConsumer{
	{"name", nil, jetstream.Ours},
	{"durable_name", nil, jetstream.Ours},
	{"description", func(c *natsjs.ConsumerConfig) { c.Description = "mine" }, jetstream.Harmless},
	{"deliver_policy", func(c *natsjs.ConsumerConfig) { c.DeliverPolicy = natsjs.DeliverNewPolicy }, jetstream.Refused},
	{"opt_start_seq", func(c *natsjs.ConsumerConfig) {
		c.DeliverPolicy, c.OptStartSeq = natsjs.DeliverByStartSequencePolicy, 2
	}, jetstream.Refused},
	{"opt_start_time", func(c *natsjs.ConsumerConfig) {
		c.DeliverPolicy, c.OptStartTime = natsjs.DeliverByStartTimePolicy, &someTime
	}, jetstream.Refused},
	{"ack_policy", func(c *natsjs.ConsumerConfig) { c.AckPolicy = natsjs.AckNonePolicy }, jetstream.Refused},
	{"ack_policy", func(c *natsjs.ConsumerConfig) { c.AckPolicy = natsjs.AckAllPolicy }, jetstream.Refused},
	{"ack_wait", func(c *natsjs.ConsumerConfig) { c.AckWait = time.Hour }, jetstream.Updated},
	{"max_deliver", func(c *natsjs.ConsumerConfig) { c.MaxDeliver = 3 }, jetstream.Updated},
	{"backoff", func(c *natsjs.ConsumerConfig) { c.MaxDeliver, c.BackOff = 3, []time.Duration{time.Hour} }, jetstream.Updated},
	{"filter_subject", func(c *natsjs.ConsumerConfig) { c.FilterSubject = "orders.created" }, jetstream.Refused},
	{"filter_subject", func(c *natsjs.ConsumerConfig) { c.FilterSubject = "" }, jetstream.Refused},
	{"filter_subjects", func(c *natsjs.ConsumerConfig) {
		c.FilterSubject, c.FilterSubjects = "", []string{"orders.created", "orders.paid"}
	}, jetstream.Refused},
	{"replay_policy", func(c *natsjs.ConsumerConfig) { c.ReplayPolicy = natsjs.ReplayOriginalPolicy }, jetstream.Refused},
	{"rate_limit_bps", nil, jetstream.Updated}, // no pull consumer takes it
	{"sample_freq", func(c *natsjs.ConsumerConfig) { c.SampleFrequency = "100" }, jetstream.Harmless},
	{"max_waiting", func(c *natsjs.ConsumerConfig) { c.MaxWaiting = 2 }, jetstream.Harmless},
	{"max_ack_pending", func(c *natsjs.ConsumerConfig) { c.MaxAckPending = 100 }, jetstream.Updated},
	{"headers_only", func(c *natsjs.ConsumerConfig) { c.HeadersOnly = true }, jetstream.Updated},
	{"max_batch", func(c *natsjs.ConsumerConfig) { c.MaxRequestBatch = 1 }, jetstream.Updated},
	{"max_expires", func(c *natsjs.ConsumerConfig) { c.MaxRequestExpires = time.Second }, jetstream.Updated},
	{"max_bytes", func(c *natsjs.ConsumerConfig) { c.MaxRequestMaxBytes = 10 }, jetstream.Updated},
	{"inactive_threshold", func(c *natsjs.ConsumerConfig) { c.InactiveThreshold = time.Hour }, jetstream.Updated},
	{"num_replicas", func(c *natsjs.ConsumerConfig) { c.Replicas = 1 }, jetstream.Harmless},
	{"mem_storage", func(c *natsjs.ConsumerConfig) { c.MemoryStorage = true }, jetstream.Harmless},
	{"metadata", func(c *natsjs.ConsumerConfig) { c.Metadata = map[string]string{"owner": "me"} }, jetstream.Harmless},
	{"pause_until", func(c *natsjs.ConsumerConfig) { c.PauseUntil = &later }, jetstream.Warned},
	{"priority_policy", func(c *natsjs.ConsumerConfig) {
		c.PriorityPolicy, c.PriorityGroups = natsjs.PriorityPolicyOverflow, []string{"jobs"}
	}, jetstream.Updated},
	{"priority_timeout", func(c *natsjs.ConsumerConfig) {
		c.PriorityPolicy, c.PriorityGroups, c.PinnedTTL = natsjs.PriorityPolicyPinned, []string{"jobs"}, time.Hour
	}, jetstream.Updated},
	{"priority_groups", func(c *natsjs.ConsumerConfig) {
		c.PriorityPolicy, c.PriorityGroups = natsjs.PriorityPolicyOverflow, []string{"jobs"}
	}, jetstream.Updated},
	{"deliver_subject", func(c *natsjs.ConsumerConfig) { c.DeliverSubject = "push.here" }, jetstream.Refused},
	{"deliver_group", func(c *natsjs.ConsumerConfig) { c.DeliverSubject, c.DeliverGroup = "push.here", "jobs" }, jetstream.Refused},
	{"flow_control", func(c *natsjs.ConsumerConfig) {
		c.DeliverSubject, c.FlowControl, c.IdleHeartbeat = "push.here", true, time.Second
	}, jetstream.Refused},
	{"idle_heartbeat", func(c *natsjs.ConsumerConfig) { c.DeliverSubject, c.IdleHeartbeat = "push.here", time.Second }, jetstream.Refused},
}

// TestEveryConsumerSetting is TestEveryStreamSetting for the consumer of a subscriber.
func TestEveryConsumerSetting(t *testing.T) {
	t.Parallel()
	var tried []string
	for _, example := range oddConsumers {
		if len(tried) == 0 || tried[len(tried)-1] != example.setting {
			tried = append(tried, example.setting)
		}
	}
	require.ElementsMatch(t, settingsOf(natsjs.ConsumerConfig{}), tried)
	require.ElementsMatch(t, settingsOf(natsjs.ConsumerConfig{}), decided(jetstream.ConsumerDecisions()))
	s := newSources(t)
	s.Append(t, outboxtest.NewEntries(0, 3)...)
	source := s.source(t)
	next := func() (inbox.Delivery, error) { return source.Next(t.Context()) }
	first, err := next()
	require.NoError(t, err)
	require.NoError(t, first.Ack(t.Context()))
	source.Close()
	own := s.consumer(t)
	for _, example := range oddConsumers {
		if example.change == nil {
			continue
		}
		t.Run(example.setting, func(t *testing.T) {
			require.NoError(t, s.admin.DeleteConsumer(t.Context(), stream, subscribe))
			config := own.Config
			example.change(&config)
			push := config.DeliverSubject != ""
			require.EventuallyWithT(t, func(t *assert.CollectT) { // the broker removes the files of the one before in the background
				var err error
				if push {
					config.MaxWaiting = 0
					_, err = s.admin.CreatePushConsumer(context.Background(), stream, config)
				} else {
					_, err = s.admin.CreateConsumer(context.Background(), stream, config)
				}
				assert.NoError(t, err)
			}, 5*time.Second, 50*time.Millisecond)
			source := s.source(t)
			defer source.Close()
			if example.verdict == jetstream.Warned {
				ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer stop()
				_, err := source.Next(ctx)
				require.Error(t, err, "nothing comes")
				require.Contains(t, source.Problem(), "nats consumer resume ORDERS "+subscribe)
				return
			}
			delivery, err := source.Next(t.Context())
			if example.verdict == jetstream.Refused {
				require.ErrorIs(t, err, inbox.ErrConsumerUnfit)
				require.ErrorContains(t, err, "nats consumer rm ORDERS "+subscribe)
				require.Equal(t, err.Error(), source.Problem())
				require.NoError(t, s.admin.DeleteConsumer(t.Context(), stream, subscribe))
				delivery, err = source.Next(t.Context())
			}
			require.NoError(t, err)
			require.Empty(t, source.Problem())
			entry, err := delivery.Entry()
			require.NoError(t, err)
			require.EqualValues(t, 1, entry.Position)
			require.NotEmpty(t, entry.Payload)
			if have := s.consumer(t).Config; example.verdict != jetstream.Harmless {
				require.Equal(t, own.Config, have)
			}
		})
	}
}

func (s *sources) consumer(t *testing.T) *natsjs.ConsumerInfo {
	t.Helper()
	found, err := s.admin.Consumer(t.Context(), stream, subscribe)
	require.NoError(t, err)
	return found.CachedInfo()
}

// TestChangesUnderASubscriber changes the consumer of a subscriber that works.
func TestChangesUnderASubscriber(t *testing.T) {
	t.Parallel()
	s := newSources(t)
	s.Append(t, outboxtest.NewEntries(0, 2)...)
	source := s.source(t)
	defer source.Close()
	delivery, err := source.Next(t.Context())
	require.NoError(t, err)
	require.NoError(t, delivery.Ack(t.Context()))
	own := s.consumer(t).Config

	_, err = s.admin.PauseConsumer(t.Context(), stream, subscribe, later)
	require.NoError(t, err)
	source.LookSoon()
	ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	_, err = source.Next(ctx)
	require.Error(t, err)
	require.Contains(t, source.Problem(), "is paused until "+later.UTC().Format(time.RFC3339))
	_, err = s.admin.ResumeConsumer(t.Context(), stream, subscribe)
	require.NoError(t, err)
	source.LookSoon()
	delivery, err = source.Next(t.Context())
	require.NoError(t, err)
	require.Empty(t, source.Problem())
	require.NoError(t, delivery.Ack(t.Context()))

	changed := own
	changed.MaxAckPending = 10
	_, err = s.admin.UpdateConsumer(t.Context(), stream, changed)
	require.NoError(t, err)
	source.LookSoon()
	_, err = source.Next(t.Context())
	requireOutage(t, err)
	s.Append(t, outboxtest.NewEntries(2, 1)...)
	delivery, err = source.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, own, s.consumer(t).Config)
	require.NoError(t, delivery.Ack(t.Context()))

	changed.FilterSubject = "orders.paid"
	_, err = s.admin.UpdateConsumer(t.Context(), stream, changed)
	require.NoError(t, err)
	source.LookSoon()
	for range 2 {
		_, err = source.Next(t.Context())
		require.ErrorIs(t, err, inbox.ErrConsumerUnfit)
		require.Contains(t, source.Problem(), "filter_subject: ")
	}
}
