package jetstream

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// reaction is what the program does about a stream setting that somebody else has made.
type reaction string

const (
	setByRelay reaction = "set by the relay"
	harmless   reaction = "harmless"
	warned     reaction = "**warned of**"
	refused    reaction = "**refused**"
)

// streamRule decides about one setting of the stream. A setting may have several rules. TestEveryStreamSetting fails if a setting has no
// rule, for example a setting that a new version of the client adds.
type streamRule struct {
	name     string // the setting's name in the stream's configuration
	value    string // the values to which the rule applies, as text for operators
	reaction reaction
	found    func(have jetstream.StreamConfig, o PublisherOptions) bool // nil: the rule finds nothing
	meaning  string                                                     // the consequence of such a value
	repair   string                                                     // how to repair it, if it is refused
}

const (
	// editStream is the beginning of a repair. The flags follow.
	editStream = "nats stream edit STREAM "
	// remake is the repair of a setting that cannot be changed. `adopt` makes the stream again and publishes everything that the log has.
	remake = "nats stream rm STREAM`, then `outboxie outbox adopt --yes"
)

// fewer is what a limit of the stream means to subscribers.
const fewer = "a subscriber that is further behind than this takes removed events from the log, as long as the log keeps them"

// streamRules decides about every setting of a stream, in the order of the client's documentation.
var streamRules = []streamRule{
	{name: "name", value: "any", reaction: setByRelay, meaning: "`STREAM_NAME`"},
	{name: "description", value: "any", reaction: harmless},
	{name: "subjects", value: "without ours", reaction: setByRelay, meaning: "those of `STREAM_SUBJECTS`, and `outboxie.STREAM.notices`, are added"},
	{name: "subjects", value: "others too", reaction: harmless, meaning: "the messages there are not the relay's; subscribers never see them"},
	{
		name: "subjects", value: "`outboxie.STREAM.wake`, by a wildcard", reaction: warned,
		found: func(c jetstream.StreamConfig, o PublisherOptions) bool {
			return coveredByAny(wakeSubject(o.Stream), c.Subjects)
		},
		meaning: "the stream also stores the relay's wake-up calls",
	},
	{
		name: "subjects", value: "`outboxie.STREAM.stored`, by a wildcard", reaction: warned,
		found: func(c jetstream.StreamConfig, o PublisherOptions) bool {
			return coveredByAny(storedSubject(o.Stream), c.Subjects)
		},
		meaning: "the relay does not notify subscribers, because the stream would store the notifications: subscribers find events up to half a second later",
	},
	{
		name: "subjects", value: "`outboxie.STREAM.leader.*`, by a wildcard", reaction: warned,
		found: func(c jetstream.StreamConfig, o PublisherOptions) bool {
			return coveredByAny(leaderSubject(o.Stream, 1), c.Subjects)
		},
		meaning: "the stream also stores and answers the questions whether the leader lives, so a dead leader is replaced only when its lease expires",
	},
	{
		name: "retention", value: "`interest` or `workqueue`", reaction: refused,
		found:   func(c jetstream.StreamConfig, _ PublisherOptions) bool { return c.Retention != jetstream.LimitsPolicy },
		meaning: "the stream deletes what was consumed, so the relay does not find its last message and a new subscriber gets nothing",
		repair:  remake,
	},
	{name: "max_consumers", value: "a limit", reaction: harmless, meaning: "subscribers need no consumers"},
	{
		name: "max_msgs", value: "a limit", reaction: warned,
		found:   func(c jetstream.StreamConfig, _ PublisherOptions) bool { return c.MaxMsgs > 0 },
		meaning: fewer,
	},
	{
		name: "max_bytes", value: "not as `STREAM_MAX_BYTES` says", reaction: warned,
		found:   func(c jetstream.StreamConfig, o PublisherOptions) bool { return differs(c.MaxBytes, o.MaxBytes) },
		meaning: "the stream keeps its own value, if that is larger; " + fewer,
	},
	{name: "discard", value: "`new`", reaction: harmless, meaning: "a full stream takes nothing more, and events wait in the outbox until it has room"},
	{
		name: "discard_new_per_subject", value: "on", reaction: refused,
		found:   func(c jetstream.StreamConfig, _ PublisherOptions) bool { return c.DiscardNewPerSubject },
		meaning: "a full subject takes no more events, and all later events wait for ever",
		repair:  editStream + "--no-discard-per-subject",
	},
	{
		name: "max_age", value: "not as `STREAM_MAX_AGE` says", reaction: warned,
		found:   func(c jetstream.StreamConfig, o PublisherOptions) bool { return differs(c.MaxAge, o.MaxAge) },
		meaning: "the stream keeps its own value, if that is larger; " + fewer,
	},
	{
		name: "max_msgs_per_subject", value: "a limit", reaction: warned,
		found:   func(c jetstream.StreamConfig, _ PublisherOptions) bool { return c.MaxMsgsPerSubject > 0 },
		meaning: "all events of a type have one subject, and only the newest of them are kept: " + fewer,
	},
	{name: "max_msg_size", value: "a limit", reaction: harmless, meaning: "larger events are parked, with the reason"},
	{
		name: "storage", value: "`memory`", reaction: warned,
		found:   func(c jetstream.StreamConfig, _ PublisherOptions) bool { return c.Storage != jetstream.FileStorage },
		meaning: "a restart of the broker loses the stream, and the relay halts with `stream_missing`",
	},
	{name: "num_replicas", value: "fewer than `STREAM_REPLICAS`", reaction: setByRelay, meaning: "it is raised"},
	{
		name: "num_replicas", value: "more than `STREAM_REPLICAS`", reaction: warned,
		found: func(c jetstream.StreamConfig, o PublisherOptions) bool {
			return o.Replicas > 0 && o.Replicas < c.Replicas
		},
		meaning: "the stream keeps its own value",
	},
	{
		name: "no_ack", value: "on", reaction: refused,
		found:   func(c jetstream.StreamConfig, _ PublisherOptions) bool { return c.NoAck },
		meaning: "the broker does not acknowledge, so the relay waits the whole timeout for each event",
		repair:  editStream + "--ack",
	},
	{name: "duplicate_window", value: "any", reaction: harmless, meaning: "events carry no `Nats-Msg-Id`"},
	{name: "placement", value: "any", reaction: harmless},
	{
		name: "mirror", value: "any", reaction: refused,
		found:   func(c jetstream.StreamConfig, _ PublisherOptions) bool { return c.Mirror != nil },
		meaning: "a mirror holds what another stream holds, and nobody can publish into it",
		repair:  editStream + "--no-mirror",
	},
	{
		name: "sources", value: "any", reaction: refused,
		found:   func(c jetstream.StreamConfig, _ PublisherOptions) bool { return len(c.Sources) > 0 },
		meaning: "messages of other streams come between the events, and those of another outbox look like ours",
		repair:  "nats stream info STREAM --json`, take the sources out of its config, and `nats stream edit STREAM --config FILE",
	},
	{
		name: "sealed", value: "on", reaction: refused,
		found:   func(c jetstream.StreamConfig, _ PublisherOptions) bool { return c.Sealed },
		meaning: "the stream never takes a message again",
		repair:  remake,
	},
	{name: "deny_delete", value: "on", reaction: harmless},
	{name: "deny_purge", value: "on", reaction: harmless, meaning: "`outboxie outbox adopt` cannot raise the sequences of an empty stream then, and says so"},
	{
		name: "allow_rollup_hdrs", value: "on", reaction: warned,
		found:   func(c jetstream.StreamConfig, _ PublisherOptions) bool { return c.AllowRollup },
		meaning: "a client that may publish can delete all that the stream holds with one message; events never do",
	},
	{name: "compression", value: "any", reaction: harmless},
	{name: "first_seq", value: "any", reaction: harmless},
	{
		name: "subject_transform", value: "of our subjects", reaction: refused,
		found: func(c jetstream.StreamConfig, o PublisherOptions) bool {
			return c.SubjectTransform != nil &&
				(overlap(c.SubjectTransform.Source, o.Subjects) || overlap(c.SubjectTransform.Source, controlSubject(o.Stream)))
		},
		meaning: "events are stored under other subjects, and no subscriber gets them",
		repair:  editStream + "--no-transform",
	},
	{name: "subject_transform", value: "of others", reaction: harmless},
	{name: "republish", value: "any", reaction: harmless, meaning: "events are also sent to that subject, once they are stored"},
	{name: "allow_direct", value: "off", reaction: setByRelay, meaning: "it is switched on: subscribers read by direct gets"},
	{name: "mirror_direct", value: "any", reaction: harmless},
	{name: "consumer_limits", value: "any", reaction: harmless, meaning: "subscribers need no consumers"},
	{name: "metadata", value: "any", reaction: harmless},
	{name: "template_owner", value: "any", reaction: harmless, meaning: "servers from 2.12 on know no templates"},
	{name: "allow_msg_ttl", value: "on", reaction: harmless, meaning: "events never ask for a time to live"},
	{
		name: "subject_delete_marker_ttl", value: "any", reaction: warned,
		found:   func(c jetstream.StreamConfig, _ PublisherOptions) bool { return c.SubjectDeleteMarkerTTL > 0 },
		meaning: "the broker stores messages of its own under the subjects of events, and each becomes a dead letter of each subscriber",
	},
	{
		name: "allow_msg_counter", value: "on", reaction: refused,
		found:   func(c jetstream.StreamConfig, _ PublisherOptions) bool { return c.AllowMsgCounter },
		meaning: "the stream adds up numbers, and takes no events",
		repair:  remake,
	},
	{name: "allow_atomic", value: "off", reaction: setByRelay, meaning: "it is switched on. Where it stays off, a server is older than NATS " + minServer + ": **refused**"},
	{name: "allow_msg_schedules", value: "on", reaction: harmless, meaning: "events are never scheduled"},
	{
		name: "persist_mode", value: "`async`", reaction: refused,
		found: func(c jetstream.StreamConfig, _ PublisherOptions) bool {
			return c.PersistMode != jetstream.DefaultPersistMode
		},
		meaning: "the broker acknowledges messages before it has stored them, and takes no atomic batches",
		repair:  remake,
	},
	{name: "allow_batched", value: "on", reaction: harmless, meaning: "the relay sends atomic batches"},
}

// brokenRules returns the rules with this reaction that the stream breaks.
func brokenRules(have jetstream.StreamConfig, o PublisherOptions, by reaction) (broken []streamRule) {
	for _, rule := range streamRules {
		if rule.reaction == by && rule.found != nil && rule.found(have, o) {
			broken = append(broken, rule)
		}
	}
	return broken
}

// about replaces the word STREAM in a text by the stream's name. Names of settings such as STREAM_NAME stay.
func about(stream, text string) string {
	return streamWord.ReplaceAllLiteralString(text, stream)
}

var streamWord = regexp.MustCompile(`\bSTREAM\b`)

func (r streamRule) refusal(stream string) string {
	return about(stream, fmt.Sprintf("%s of stream STREAM: %s. Repair: `%s`", r.name, r.meaning, r.repair))
}

// finding describes what a warning is about. If the options ask for another value, it names both values.
func (r streamRule) finding(have jetstream.StreamConfig, o PublisherOptions) string {
	text := about(o.Stream, r.name+": "+r.meaning)
	values, known := map[string][2]any{
		"max_bytes":    {have.MaxBytes, o.MaxBytes},
		"max_age":      {have.MaxAge, o.MaxAge},
		"num_replicas": {have.Replicas, o.Replicas},
	}[r.name]
	if !known {
		return text
	}
	return fmt.Sprintf("%s: the stream has %v, configured is %v; %s", r.name, values[0], values[1],
		strings.TrimPrefix(text, r.name+": "))
}

// overlap reports whether a subject can match both patterns. An empty pattern matches every subject.
func overlap(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		switch {
		case as[i] == ">" || bs[i] == ">" || a == "" || b == "":
			return true
		case as[i] != bs[i] && as[i] != "*" && bs[i] != "*":
			return false
		}
	}
	return len(as) == len(bs)
}

// minServer is the oldest NATS server that stores atomic batches. An older server stores the messages of a batch one by one, and checks the
// expected sequence only for the first.
const minServer = "2.12.0"

// tooOld reports whether a server is known to be older than minServer. An unknown version does not count as too old: the settings that the
// server keeps show what it supports.
func tooOld(version string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d", &major, &minor); n < 2 {
		return false
	}
	return major < 2 || major == 2 && minor < 12
}

// larger returns the larger of a stream's limit and an option. A negative option means unlimited, and 0 means no opinion. For the broker,
// any limit below 1 means unlimited.
func larger[N int32 | int64 | time.Duration](have, asked, unlimited N) N {
	switch {
	case asked == 0:
		return have
	case asked < 0 || have <= 0:
		return unlimited
	}
	return max(have, asked)
}

// differs reports whether a stream's limit is not the limit of the options. If the options ask for no limit, any limit of the stream
// differs. A negative option accepts every limit.
func differs[N int64 | time.Duration](have, asked N) bool {
	return asked >= 0 && max(have, 0) != max(asked, 0)
}

// wanted returns have with the settings that the options ask for. It never lowers a limit of have.
func wanted(have jetstream.StreamConfig, o PublisherOptions) jetstream.StreamConfig {
	have.AllowAtomicPublish, have.AllowDirect = true, true
	for _, subject := range []string{o.Subjects, controlSubject(o.Stream)} {
		if !coveredByAny(subject, have.Subjects) {
			narrower := func(other string) bool { return covers(subject, other) } // removed because the broker refuses overlapping subjects
			have.Subjects = append(slices.DeleteFunc(slices.Clone(have.Subjects), narrower), subject)
		}
	}
	have.MaxBytes = larger(have.MaxBytes, o.MaxBytes, -1)
	have.MaxMsgSize = larger(have.MaxMsgSize, o.MaxMsgSize, -1)
	have.MaxAge = larger(have.MaxAge, o.MaxAge, 0)
	have.Replicas = max(have.Replicas, o.Replicas)
	return have
}

// upToDate reports whether a stream has the settings that the options ask for.
func upToDate(have jetstream.StreamConfig, o PublisherOptions) bool {
	want := wanted(have, o)
	return have.AllowAtomicPublish == want.AllowAtomicPublish && have.AllowDirect == want.AllowDirect && slices.Equal(have.Subjects, want.Subjects) &&
		have.MaxBytes == want.MaxBytes && have.MaxMsgSize == want.MaxMsgSize && have.MaxAge == want.MaxAge &&
		have.Replicas == want.Replicas
}
