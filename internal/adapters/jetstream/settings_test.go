package jetstream_test

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

// settingsOf returns the names of all settings in a configuration of the client.
func settingsOf(config any) (names []string) {
	for field := range reflect.TypeOf(config).Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

func decided(decisions []jetstream.Decision) (names []string) {
	for _, d := range decisions {
		if len(names) == 0 || names[len(names)-1] != d.Name {
			names = append(names, d.Name)
		}
	}
	return names
}

// odd is a value of a setting that somebody else could choose, and what the program does about it.
type odd[C any] struct {
	setting string
	change  func(c *C)
	verdict string
}

type oddStream = odd[natsjs.StreamConfig]

// oddStreams has one or more values of each setting of a stream.
var oddStreams = []oddStream{
	{"name", nil, jetstream.Ours},
	{"description", func(c *natsjs.StreamConfig) { c.Description = "mine" }, jetstream.Harmless},
	{"subjects", func(c *natsjs.StreamConfig) { c.Subjects = []string{"orders.created"} }, jetstream.Ours},
	{"subjects", func(c *natsjs.StreamConfig) { c.Subjects = append(c.Subjects, "invoices.>") }, jetstream.Harmless},
	{"subjects", func(c *natsjs.StreamConfig) { c.Subjects = []string{"orders.>", "outboxie.ORDERS.*"} }, jetstream.Warned},
	{"subjects", func(c *natsjs.StreamConfig) {
		c.Subjects = []string{"orders.>", "outboxie.ORDERS.notices", "outboxie.ORDERS.leader.*"}
	}, jetstream.Warned},
	{"retention", func(c *natsjs.StreamConfig) { c.Retention = natsjs.InterestPolicy }, jetstream.Refused},
	{"retention", func(c *natsjs.StreamConfig) { c.Retention = natsjs.WorkQueuePolicy }, jetstream.Refused},
	{"max_consumers", func(c *natsjs.StreamConfig) { c.MaxConsumers = 7 }, jetstream.Warned},
	{"max_msgs", func(c *natsjs.StreamConfig) { c.MaxMsgs = 100 }, jetstream.Warned},
	{"max_bytes", func(c *natsjs.StreamConfig) { c.MaxBytes = 1 << 20 }, jetstream.Warned},
	{"discard", func(c *natsjs.StreamConfig) { c.Discard = natsjs.DiscardNew }, jetstream.Harmless},
	{"discard_new_per_subject", func(c *natsjs.StreamConfig) {
		c.DiscardNewPerSubject, c.Discard, c.MaxMsgsPerSubject = true, natsjs.DiscardNew, 100
	}, jetstream.Refused},
	{"max_age", func(c *natsjs.StreamConfig) { c.MaxAge = time.Hour }, jetstream.Warned},
	{"max_msgs_per_subject", func(c *natsjs.StreamConfig) { c.MaxMsgsPerSubject = 100 }, jetstream.Warned},
	{"max_msg_size", func(c *natsjs.StreamConfig) { c.MaxMsgSize = 10_000 }, jetstream.Harmless},
	{"storage", func(c *natsjs.StreamConfig) { c.Storage = natsjs.MemoryStorage }, jetstream.Warned},
	{"num_replicas", func(c *natsjs.StreamConfig) { c.Replicas = 1 }, jetstream.Harmless}, // more take a cluster: TestStreamRules
	{"no_ack", func(c *natsjs.StreamConfig) { c.NoAck = true }, jetstream.Refused},
	{"duplicate_window", func(c *natsjs.StreamConfig) { c.Duplicates = time.Hour }, jetstream.Harmless},
	{"placement", func(c *natsjs.StreamConfig) { c.Placement = &natsjs.Placement{Tags: []string{}} }, jetstream.Harmless},
	{"mirror", func(c *natsjs.StreamConfig) {
		c.Subjects, c.FirstSeq, c.AllowAtomicPublish, c.Mirror = nil, 0, false, &natsjs.StreamSource{Name: "ORIGIN"}
	}, jetstream.Refused},
	{"sources", func(c *natsjs.StreamConfig) { c.Sources = []*natsjs.StreamSource{{Name: "ORIGIN"}} }, jetstream.Refused},
	{"sealed", func(c *natsjs.StreamConfig) { c.Sealed = true }, jetstream.Refused},
	{"deny_delete", func(c *natsjs.StreamConfig) { c.DenyDelete = true }, jetstream.Harmless},
	{"deny_purge", func(c *natsjs.StreamConfig) { c.DenyPurge = true }, jetstream.Harmless},
	{"allow_rollup_hdrs", func(c *natsjs.StreamConfig) { c.AllowRollup = true }, jetstream.Warned},
	{"compression", func(c *natsjs.StreamConfig) { c.Compression = natsjs.S2Compression }, jetstream.Harmless},
	{"first_seq", func(c *natsjs.StreamConfig) { c.FirstSeq = 1000 }, jetstream.Harmless},
	{"subject_transform", func(c *natsjs.StreamConfig) {
		c.SubjectTransform = &natsjs.SubjectTransformConfig{Source: "orders.*", Destination: "elsewhere.{{wildcard(1)}}"}
	}, jetstream.Refused},
	{"subject_transform", func(c *natsjs.StreamConfig) {
		c.SubjectTransform = &natsjs.SubjectTransformConfig{Source: ">", Destination: "all.>"}
	}, jetstream.Refused},
	{"subject_transform", func(c *natsjs.StreamConfig) {
		c.SubjectTransform = &natsjs.SubjectTransformConfig{Source: "invoices.>", Destination: "elsewhere.>"}
	}, jetstream.Harmless},
	{"republish", func(c *natsjs.StreamConfig) { c.RePublish = &natsjs.RePublish{Source: ">", Destination: "copy.>"} }, jetstream.Harmless},
	{"allow_direct", func(c *natsjs.StreamConfig) { c.AllowDirect = true }, jetstream.Harmless},
	{"mirror_direct", func(c *natsjs.StreamConfig) { c.MirrorDirect = true }, jetstream.Harmless},
	{"consumer_limits", func(c *natsjs.StreamConfig) { c.ConsumerLimits.InactiveThreshold = time.Hour }, jetstream.Warned},
	{"consumer_limits", func(c *natsjs.StreamConfig) { c.ConsumerLimits.MaxAckPending = 5 }, jetstream.Harmless},
	{"metadata", func(c *natsjs.StreamConfig) { c.Metadata = map[string]string{"owner": "me"} }, jetstream.Harmless},
	{"template_owner", nil, jetstream.Harmless}, // no server takes it any more
	{"allow_msg_ttl", func(c *natsjs.StreamConfig) { c.AllowMsgTTL = true }, jetstream.Harmless},
	{"subject_delete_marker_ttl", func(c *natsjs.StreamConfig) {
		c.SubjectDeleteMarkerTTL, c.AllowMsgTTL, c.AllowRollup = time.Hour, true, true
	}, jetstream.Warned},
	{"allow_msg_counter", func(c *natsjs.StreamConfig) { c.AllowMsgCounter = true }, jetstream.Refused},
	{"allow_atomic", func(c *natsjs.StreamConfig) { c.AllowAtomicPublish = false }, jetstream.Ours},
	{"allow_msg_schedules", func(c *natsjs.StreamConfig) { c.AllowMsgSchedules, c.AllowRollup = true, true }, jetstream.Harmless},
	{"persist_mode", func(c *natsjs.StreamConfig) {
		c.PersistMode, c.AllowAtomicPublish = natsjs.AsyncPersistMode, false
	}, jetstream.Refused},
	{"allow_batched", func(c *natsjs.StreamConfig) { c.AllowBatchPublish = true }, jetstream.Harmless},
}

// TestEveryStreamSetting gives a stream each of the settings that there are, on a real server, and compares what becomes of that
// with what docs/operations.md says. A setting that a new version of the client brings fails the test until it is decided.
func TestEveryStreamSetting(t *testing.T) {
	t.Parallel()
	var tried []string
	for _, example := range oddStreams {
		if len(tried) == 0 || tried[len(tried)-1] != example.setting {
			tried = append(tried, example.setting)
		}
	}
	require.ElementsMatch(t, settingsOf(natsjs.StreamConfig{}), tried)
	require.ElementsMatch(t, settingsOf(natsjs.StreamConfig{}), decided(jetstream.StreamDecisions()))
	b := newBroker(t)
	_, err := b.admin.CreateStream(t.Context(), natsjs.StreamConfig{Name: "ORIGIN", Subjects: []string{"origin"}})
	require.NoError(t, err)
	for _, example := range oddStreams {
		if example.change != nil {
			t.Run(example.setting, func(t *testing.T) { requireVerdict(t, b, example) })
		}
	}
}

func requireVerdict(t *testing.T, b *broker, example oddStream) {
	publisher := b.publisher(jetstream.PublisherOptions{})
	_, err := publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	defer b.Drop(t)
	_, err = publisher.Publish(t.Context(), 0, outboxtest.NewEntries(0, 9))
	require.NoError(t, err)
	config := b.info().Config
	example.change(&config)
	if _, err = b.admin.UpdateStream(t.Context(), config); err != nil { // what cannot be changed is there from the beginning
		b.Drop(t)
		_, err = b.admin.CreateStream(t.Context(), config)
	}
	require.NoError(t, err)

	if example.verdict == jetstream.Refused {
		_, err := publisher.Look(t.Context())
		require.ErrorIs(t, err, ports.ErrStreamUnfit)
		require.ErrorContains(t, err, example.setting+" of stream ORDERS: ")
		require.ErrorContains(t, err, "Repair: `nats stream ")
		_, err = publisher.Open(t.Context(), 1)
		require.ErrorIs(t, err, ports.ErrStreamUnfit)
		before := b.info().State.LastSeq
		for _, n := range []int{1, 20} {
			_, err = publisher.Publish(t.Context(), before, outboxtest.NewEntries(9, n))
			require.ErrorIs(t, err, ports.ErrTailMoved)
		}
		require.Equal(t, before, b.info().State.LastSeq, "nothing is published")
		return
	}
	info, err := publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	found := strings.Join(publisher.Findings(), "\n")
	require.Equal(t, example.verdict == jetstream.Warned, strings.Contains(found, example.setting+": "), found)
	last, err := publisher.Publish(t.Context(), info.LastSequence, outboxtest.NewEntries(9, 1))
	require.NoError(t, err)
	_, err = publisher.Publish(t.Context(), last, outboxtest.NewEntries(10, 20))
	require.NoError(t, err)
	source, err := jetstream.NewSource(b.connect(), jetstream.SourceOptions{Stream: stream, Subscriber: subscribe, Logger: silent})
	require.NoError(t, err)
	defer source.Close()
	for position := 30 - int(b.info().State.Msgs); position < 30; position++ {
		delivery, err := source.Next(t.Context())
		require.NoError(t, err)
		entry, err := delivery.Entry()
		require.NoError(t, err)
		require.EqualValues(t, position+1, entry.Position)
		require.NoError(t, delivery.Ack(t.Context()))
	}
}

// TestStreamRules tries what takes a cluster, or settings of the program.
func TestStreamRules(t *testing.T) {
	good := natsjs.StreamConfig{Subjects: []string{"orders.>"}, Replicas: 3, MaxBytes: 1000, MaxAge: time.Hour}
	options := jetstream.PublisherOptions{Stream: stream, Replicas: 3, MaxBytes: 1000, MaxAge: time.Hour}
	require.Empty(t, jetstream.Broken(good, options))
	fewer := options
	fewer.Replicas, fewer.MaxBytes, fewer.MaxAge = 1, 999, time.Minute
	require.ElementsMatch(t, []string{"num_replicas", "max_bytes", "max_age"}, jetstream.Broken(good, fewer))
	unlimited := good
	unlimited.MaxBytes, unlimited.MaxAge = -1, 0
	require.ElementsMatch(t, []string{"max_bytes", "max_age"}, jetstream.Broken(unlimited, options))
	options.MaxBytes, options.MaxAge = -1, -1
	require.Empty(t, jetstream.Broken(unlimited, options))
}

func TestOverlap(t *testing.T) {
	for _, patterns := range [][2]string{{"", "a"}, {">", "a.b"}, {"a.*", "*.b"}, {"a.>", "a.b.c"}, {"a.b", "a.b"}, {"*.b.>", "a.*.c"}} {
		require.True(t, jetstream.Overlap(patterns[0], patterns[1]), "%v", patterns)
		require.True(t, jetstream.Overlap(patterns[1], patterns[0]), "%v", patterns)
	}
	for _, patterns := range [][2]string{{"a", "b"}, {"a.*", "a"}, {"a.>", "a"}, {"a.*.c", "a.b.d"}, {"a.b", "a.b.c"}} {
		require.False(t, jetstream.Overlap(patterns[0], patterns[1]), "%v", patterns)
		require.False(t, jetstream.Overlap(patterns[1], patterns[0]), "%v", patterns)
	}
}

func TestServerVersions(t *testing.T) {
	for _, version := range []string{"2.11.4", "2.9.25", "1.4.1", "v2.11.0", "2.11.99-beta.1"} {
		require.True(t, jetstream.TooOld(version), version)
	}
	for _, version := range []string{"2.12.0", "2.12.0-RC.1", "2.15.3", "3.0.0", "v2.20.1", "", "dev"} {
		require.False(t, jetstream.TooOld(version), version)
	}
}

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
			var err error
			if push {
				config.MaxWaiting = 0
				_, err = s.admin.CreatePushConsumer(t.Context(), stream, config)
			} else {
				_, err = s.admin.CreateConsumer(t.Context(), stream, config)
			}
			require.NoError(t, err)
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
