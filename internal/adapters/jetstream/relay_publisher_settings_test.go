package jetstream_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// settingsOf returns the names of all settings in a configuration of the NATS client.
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

// odd is an unusual value of a setting, with the verdict that the program must give.
type odd[C any] struct {
	setting string
	change  func(c *C)
	verdict string
}

type oddStream = odd[natsjs.StreamConfig]

// oddStreams has one or more unusual values of each setting of a stream.
var oddStreams = []oddStream{
	{"name", nil, jetstream.SetByRelay},
	{"description", func(c *natsjs.StreamConfig) { c.Description = "mine" }, jetstream.Harmless},
	{"subjects", func(c *natsjs.StreamConfig) { c.Subjects = []string{"things.happened"} }, jetstream.SetByRelay},
	{"subjects", func(c *natsjs.StreamConfig) { c.Subjects = append(c.Subjects, "vouchers.>") }, jetstream.Harmless},
	{"subjects", func(c *natsjs.StreamConfig) { c.Subjects = []string{"things.>", "outboxie.ORDERS.*"} }, jetstream.Warned},
	{"subjects", func(c *natsjs.StreamConfig) {
		c.Subjects = []string{"things.>", "outboxie.ORDERS.notices", "outboxie.ORDERS.leader.*"}
	}, jetstream.Warned},
	{"retention", func(c *natsjs.StreamConfig) { c.Retention = natsjs.InterestPolicy }, jetstream.Refused},
	{"retention", func(c *natsjs.StreamConfig) { c.Retention = natsjs.WorkQueuePolicy }, jetstream.Refused},
	{"max_consumers", func(c *natsjs.StreamConfig) { c.MaxConsumers = 7 }, jetstream.Harmless},
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
	{"num_replicas", func(c *natsjs.StreamConfig) { c.Replicas = 1 }, jetstream.Harmless}, // more replicas need a cluster: TestStreamRules
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
		c.SubjectTransform = &natsjs.SubjectTransformConfig{Source: "things.*", Destination: "elsewhere.{{wildcard(1)}}"}
	}, jetstream.Refused},
	{"subject_transform", func(c *natsjs.StreamConfig) {
		c.SubjectTransform = &natsjs.SubjectTransformConfig{Source: ">", Destination: "all.>"}
	}, jetstream.Refused},
	{"subject_transform", func(c *natsjs.StreamConfig) {
		c.SubjectTransform = &natsjs.SubjectTransformConfig{Source: "vouchers.>", Destination: "elsewhere.>"}
	}, jetstream.Harmless},
	{"republish", func(c *natsjs.StreamConfig) { c.RePublish = &natsjs.RePublish{Source: ">", Destination: "copy.>"} }, jetstream.Harmless},
	{"allow_direct", func(c *natsjs.StreamConfig) { c.AllowDirect = false }, jetstream.SetByRelay},
	{"mirror_direct", func(c *natsjs.StreamConfig) { c.MirrorDirect = true }, jetstream.Harmless},
	{"consumer_limits", func(c *natsjs.StreamConfig) { c.ConsumerLimits.InactiveThreshold = time.Hour }, jetstream.Harmless},
	{"consumer_limits", func(c *natsjs.StreamConfig) { c.ConsumerLimits.MaxAckPending = 5 }, jetstream.Harmless},
	{"metadata", func(c *natsjs.StreamConfig) { c.Metadata = map[string]string{"owner": "me"} }, jetstream.Harmless},
	{"template_owner", nil, jetstream.Harmless}, // no supported server accepts it
	{"allow_msg_ttl", func(c *natsjs.StreamConfig) { c.AllowMsgTTL = true }, jetstream.Harmless},
	{"subject_delete_marker_ttl", func(c *natsjs.StreamConfig) {
		c.SubjectDeleteMarkerTTL, c.AllowMsgTTL, c.AllowRollup = time.Hour, true, true
	}, jetstream.Warned},
	{"allow_msg_counter", func(c *natsjs.StreamConfig) { c.AllowMsgCounter = true }, jetstream.Refused},
	{"allow_atomic", func(c *natsjs.StreamConfig) { c.AllowAtomicPublish = false }, jetstream.SetByRelay},
	{"allow_msg_schedules", func(c *natsjs.StreamConfig) { c.AllowMsgSchedules, c.AllowRollup = true, true }, jetstream.Harmless},
	{"persist_mode", func(c *natsjs.StreamConfig) {
		c.PersistMode, c.AllowAtomicPublish = natsjs.AsyncPersistMode, false
	}, jetstream.Refused},
	{"allow_batched", func(c *natsjs.StreamConfig) { c.AllowBatchPublish = true }, jetstream.Harmless},
}

// TestEveryStreamSetting checks the verdict about each setting of a stream on a real server. If a new version of the client
// adds a setting, the test fails until the program has a rule for it.
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

// openEmpty creates the stream. A busy NATS server sometimes gives a stream the messages of a deleted stream of the same name, if it was
// deleted directly before. Such a stream is dropped.
func openEmpty(t *testing.T, b *broker, publisher *jetstream.Publisher) {
	t.Helper()
	for range 100 {
		info, err := publisher.Open(t.Context(), 1)
		require.NoError(t, err)
		if info.LastSequence == 0 {
			return
		}
		b.Drop(t)
	}
	require.FailNow(t, "each new stream has messages")
}

func requireVerdict(t *testing.T, b *broker, example oddStream) {
	publisher := b.publisher(jetstream.PublisherOptions{})
	openEmpty(t, b, publisher)
	defer b.Drop(t)
	_, err := publisher.Publish(t.Context(), 0, relaytest.NewEntries(0, 9))
	require.NoError(t, err)
	b.settled(t) // a late signal to the subscribers would be stored, if the changed stream takes its subject
	config := b.info().Config
	example.change(&config)
	if _, err = b.admin.UpdateStream(t.Context(), config); err != nil { // a setting that cannot be changed is set when the stream is created
		b.Drop(t)
		_, err = b.admin.CreateStream(t.Context(), config)
	}
	require.NoError(t, err)

	if example.verdict == jetstream.Refused {
		_, err := publisher.Look(t.Context())
		require.ErrorIs(t, err, relay.ErrStreamUnfit)
		require.ErrorContains(t, err, example.setting+" of stream ORDERS: ")
		require.ErrorContains(t, err, "Repair: `nats stream ")
		_, err = publisher.Open(t.Context(), 1)
		require.ErrorIs(t, err, relay.ErrStreamUnfit)
		before := b.info().State.LastSeq
		for _, n := range []int{1, 20} {
			_, err = publisher.Publish(t.Context(), before, relaytest.NewEntries(9, n))
			require.ErrorIs(t, err, relay.ErrTailMoved)
		}
		require.Equal(t, before, b.info().State.LastSeq, "nothing is published")
		return
	}
	info, err := publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	found := strings.Join(publisher.Findings(), "\n")
	require.Equal(t, example.verdict == jetstream.Warned, strings.Contains(found, example.setting+": "), found)
	last, err := publisher.Publish(t.Context(), info.LastSequence, relaytest.NewEntries(9, 1))
	require.NoError(t, err)
	_, err = publisher.Publish(t.Context(), last, relaytest.NewEntries(10, 20))
	require.NoError(t, err)
	requireReadable(t, b, 30)
}

// requireReadable checks that a subscriber reads all events in the stream, and that the last one has position last.
func requireReadable(t *testing.T, b *broker, last outbox.Position) {
	t.Helper()
	messages, err := b.reader(t).Read(t.Context(), 1, everything)
	require.NoError(t, err)
	require.Len(t, messages, int(b.info().State.Msgs)) //nolint:gosec // few
	position := last - outbox.Position(len(messages))
	for _, message := range messages {
		position++
		require.NotNil(t, message.Event)
		require.NoError(t, message.Event.Unreadable)
		require.Equal(t, position, message.Event.Position)
	}
}

// TestStreamRules checks the rules that depend on a cluster or on the program's own settings.
func TestStreamRules(t *testing.T) {
	good := natsjs.StreamConfig{AllowDirect: true, Subjects: []string{"things.>"}, Replicas: 3, MaxBytes: 1000, MaxAge: time.Hour}
	options := jetstream.PublisherOptions{Stream: stream, Subjects: subjects, Source: source, Replicas: 3, MaxBytes: 1000, MaxAge: time.Hour}
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
