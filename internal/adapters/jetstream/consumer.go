package jetstream

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// consumerRule decides about one setting of a subscriber's consumer, as streamRule does about the stream's. What is brought up
// to date is set by update.
type consumerRule struct {
	name    string
	value   string
	verdict verdict
	found   func(have jetstream.ConsumerConfig) bool // nil if there is nothing to say
	update  func(config *jetstream.ConsumerConfig, o SourceOptions)
	meaning string
}

// removeConsumer is the one repair of a consumer that is refused. The next one begins with the first event of the stream, and the
// subscriber drops what it has applied.
const removeConsumer = "nats consumer rm STREAM SUBSCRIBER"

// skipped is why a consumer that chose its events is refused: nobody can tell what it passed over.
const skipped = "the subscriber never gets the events that the consumer passed over"

var consumerRules = []consumerRule{
	{name: "name", value: "any", verdict: ours, meaning: "the subscriber's id"},
	{name: "durable_name", value: "any", verdict: ours, meaning: "the subscriber's id"},
	{name: "description", value: "any", verdict: harmless},
	{
		name: "deliver_policy", value: "not `all`", verdict: refused, meaning: skipped,
		found: func(c jetstream.ConsumerConfig) bool { return c.DeliverPolicy != jetstream.DeliverAllPolicy },
	},
	{
		name: "opt_start_seq", value: "any", verdict: refused, meaning: skipped,
		found: func(c jetstream.ConsumerConfig) bool { return c.OptStartSeq != 0 },
	},
	{
		name: "opt_start_time", value: "any", verdict: refused, meaning: skipped,
		found: func(c jetstream.ConsumerConfig) bool { return c.OptStartTime != nil },
	},
	{
		name: "ack_policy", value: "not `explicit`", verdict: refused,
		meaning: "events count as dealt with before they are, and do not come again after a crash",
		found:   func(c jetstream.ConsumerConfig) bool { return c.AckPolicy != jetstream.AckExplicitPolicy },
	},
	{
		name: "ack_wait", value: "another", verdict: updated, meaning: "how soon an event comes again",
		update: func(c *jetstream.ConsumerConfig, o SourceOptions) { c.AckWait = o.AckWait },
	},
	{
		name: "max_deliver", value: "a limit", verdict: updated, meaning: "an event that failed so often before was given up",
		update: func(c *jetstream.ConsumerConfig, _ SourceOptions) { c.MaxDeliver = -1 },
	},
	{
		name: "backoff", value: "any", verdict: updated, meaning: "how soon an event comes again",
		update: func(c *jetstream.ConsumerConfig, _ SourceOptions) { c.BackOff = nil },
	},
	{
		name: "filter_subject", value: "not `orders.>`", verdict: refused, meaning: skipped,
		found: func(c jetstream.ConsumerConfig) bool { return c.FilterSubject != eventSubjects },
	},
	{
		name: "filter_subjects", value: "any", verdict: refused, meaning: skipped,
		found: func(c jetstream.ConsumerConfig) bool { return len(c.FilterSubjects) > 0 },
	},
	{
		name: "replay_policy", value: "`original`", verdict: refused, meaning: "events come as slowly as they were published",
		found: func(c jetstream.ConsumerConfig) bool { return c.ReplayPolicy != jetstream.ReplayInstantPolicy },
	},
	{
		name: "rate_limit_bps", value: "any", verdict: updated, meaning: "events come slowly",
		update: func(c *jetstream.ConsumerConfig, _ SourceOptions) { c.RateLimit = 0 },
	},
	{name: "sample_freq", value: "any", verdict: harmless},
	{name: "max_waiting", value: "a limit", verdict: harmless, meaning: "more copies of the subscriber than this wait for each other"},
	{
		name: "max_ack_pending", value: "not 1", verdict: updated, meaning: "new events overtake those that come again",
		update: func(c *jetstream.ConsumerConfig, _ SourceOptions) { c.MaxAckPending = 1 },
	},
	{
		name: "headers_only", value: "on", verdict: updated, meaning: "events that came without their payload became dead letters",
		update: func(c *jetstream.ConsumerConfig, _ SourceOptions) { c.HeadersOnly = false },
	},
	{
		name: "max_batch", value: "a limit", verdict: updated,
		update: func(c *jetstream.ConsumerConfig, _ SourceOptions) { c.MaxRequestBatch = 0 },
	},
	{
		name: "max_expires", value: "a limit", verdict: updated, meaning: "the broker refuses to wait for events as long as the subscriber asks",
		update: func(c *jetstream.ConsumerConfig, _ SourceOptions) { c.MaxRequestExpires = 0 },
	},
	{
		name: "max_bytes", value: "a limit", verdict: updated, meaning: "larger events never come",
		update: func(c *jetstream.ConsumerConfig, _ SourceOptions) { c.MaxRequestMaxBytes = 0 },
	},
	{
		name: "inactive_threshold", value: "any", verdict: updated, meaning: "a subscriber that does not run for so long is forgotten",
		update: func(c *jetstream.ConsumerConfig, _ SourceOptions) { c.InactiveThreshold = 0 },
	},
	{name: "num_replicas", value: "any", verdict: harmless},
	{
		name: "mem_storage", value: "on", verdict: harmless,
		meaning: "after a restart of the broker the subscriber begins with the first event, and drops what it had applied",
	},
	{name: "metadata", value: "any", verdict: harmless},
	{
		name: "pause_until", value: "a time to come", verdict: warned,
		meaning: "the subscriber gets nothing until then. To go on: `nats consumer resume STREAM SUBSCRIBER`",
	},
	{
		name: "priority_policy", value: "any", verdict: updated, meaning: "the broker delivers only to those who name a group",
		update: func(c *jetstream.ConsumerConfig, _ SourceOptions) { c.PriorityPolicy = jetstream.PriorityPolicyNone },
	},
	{
		name: "priority_timeout", value: "any", verdict: updated,
		update: func(c *jetstream.ConsumerConfig, _ SourceOptions) { c.PinnedTTL = 0 },
	},
	{
		name: "priority_groups", value: "any", verdict: updated,
		update: func(c *jetstream.ConsumerConfig, _ SourceOptions) { c.PriorityGroups = nil },
	},
	{
		name: "deliver_subject", value: "any", verdict: refused, meaning: "the broker sends events to that subject, and the subscriber cannot ask for them",
		found: func(c jetstream.ConsumerConfig) bool { return c.DeliverSubject != "" },
	},
	{name: "deliver_group", value: "any", verdict: refused, meaning: "only with `deliver_subject`"},
	{name: "flow_control", value: "on", verdict: refused, meaning: "only with `deliver_subject`"},
	{name: "idle_heartbeat", value: "any", verdict: refused, meaning: "only with `deliver_subject`"},
}

// consumer is what the subscriber asks for.
func (o SourceOptions) consumer() jetstream.ConsumerConfig {
	config := jetstream.ConsumerConfig{
		Durable: o.Subscriber, FilterSubject: eventSubjects, DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy,
	}
	return o.updated(config)
}

// updated returns config with everything that is brought up to date.
func (o SourceOptions) updated(config jetstream.ConsumerConfig) jetstream.ConsumerConfig {
	for _, rule := range consumerRules {
		if rule.update != nil {
			rule.update(&config, o)
		}
	}
	return config
}

// unfit reports what is wrong with a consumer of the subscriber's name that somebody else has made.
func (o SourceOptions) unfit(have jetstream.ConsumerConfig) error {
	var reasons []string
	for _, rule := range consumerRules {
		if rule.found != nil && rule.verdict == refused && rule.found(have) {
			reasons = append(reasons, rule.name+": "+rule.meaning)
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	return o.refused(strings.Join(reasons, "; "))
}

func (o SourceOptions) refused(reason string) error {
	return inbox.ErrConsumerUnfit.With("%s", o.about("consumer SUBSCRIBER of stream STREAM: "+reason+". Repair, while no copy of the "+
		"subscriber runs: `"+removeConsumer+"`. The subscriber begins with the first event then, and drops what it has applied"))
}

func (o SourceOptions) about(text string) string {
	return strings.ReplaceAll(about(o.Stream, text), "SUBSCRIBER", o.Subscriber)
}

// consumer creates the consumer, or makes sure that the one that is there is as the subscriber needs it.
func (s *Source) consumer(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	made, err := s.js.CreateConsumer(ctx, s.o.Stream, s.o.consumer())
	if err == nil {
		return made.CachedInfo(), nil
	}
	if !errors.Is(err, jetstream.ErrConsumerExists) {
		return nil, err
	}
	info, err := s.lookUp(ctx) // it is another one
	if err != nil {
		return nil, err
	}
	if err := s.o.unfit(info.Config); err != nil {
		return nil, err
	}
	made, err = s.js.UpdateConsumer(ctx, s.o.Stream, s.o.updated(info.Config))
	if errorCode(err) != 0 && !transient(err) {
		return nil, s.o.refused("it cannot be brought up to date: " + err.Error())
	}
	if err != nil {
		return nil, err
	}
	s.o.Logger.Info("brought the consumer up to date", "stream", s.o.Stream, "subscriber", s.o.Subscriber)
	return made.CachedInfo(), nil
}

// lookTimeout bounds a look at the consumer: without the right to look there is no answer.
const lookTimeout = time.Second

// lookUp reads the consumer.
func (s *Source) lookUp(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	found, err := s.js.Consumer(ctx, s.o.Stream, s.o.Subscriber)
	request := "CONSUMER.INFO." + s.o.Stream + "." + s.o.Subscriber // an account may map its prefix to another
	if last := s.nc.LastError(); err != nil && errors.Is(last, nats.ErrPermissionViolation) && strings.Contains(last.Error(), request) {
		return nil, errBlind.With("the NATS user may not publish to $JS.API.%s, so the subscriber cannot read its consumer's settings", request)
	}
	if errors.Is(err, jetstream.ErrNotPullConsumer) {
		return nil, s.o.unfit(jetstream.ConsumerConfig{FilterSubject: eventSubjects, DeliverSubject: "some"})
	}
	if err != nil {
		return nil, err
	}
	return found.CachedInfo(), nil
}

// errBlind reports that the settings of the consumer cannot be read.
var errBlind = ErrUnavailable.With("the subscriber may not read its consumer's settings")

// lookEvery is how often a subscriber looks at its consumer's settings, beside the look with which it begins.
const lookEvery = 5 * time.Second

// look notices what somebody has changed while the subscriber works, with one request at most every lookEvery.
func (s *Source) look(ctx context.Context) error {
	if time.Since(s.looked) < lookEvery {
		return nil
	}
	s.looked = time.Now()
	info, err := s.lookUp(ctx)
	switch {
	case errors.Is(err, errBlind):
		s.looked = time.Now().Add(deniedPause) // the broker logs each denial
		return nil
	case err != nil:
		return err
	}
	if err := s.o.unfit(info.Config); err != nil {
		return err
	}
	if !reflect.DeepEqual(settings(info.Config), s.agreed) {
		return ErrUnavailable.With("somebody changed consumer %s of stream %s", s.o.Subscriber, s.o.Stream)
	}
	s.see(info)
	return nil
}

// settings returns what of a consumer's configuration says how events are delivered.
func settings(config jetstream.ConsumerConfig) jetstream.ConsumerConfig {
	config.Description, config.Metadata, config.PauseUntil = "", nil, nil
	return config
}

// see remembers, and logs once, whether the consumer is paused.
func (s *Source) see(info *jetstream.ConsumerInfo) {
	s.looked, s.agreed = time.Now(), settings(info.Config)
	problem := ""
	if info.Paused && info.Config.PauseUntil != nil {
		problem = s.o.about(fmt.Sprintf("consumer SUBSCRIBER of stream STREAM is paused until %s, and the subscriber gets nothing. To go on: "+
			"`nats consumer resume STREAM SUBSCRIBER`", info.Config.PauseUntil.UTC().Format(time.RFC3339)))
	}
	switch before := s.problem.Swap(&problem); {
	case problem != "" && (before == nil || *before != problem):
		s.o.Logger.Warn("the consumer is paused", "subscriber", s.o.Subscriber, "problem", problem)
	case problem == "" && before != nil && *before != "":
		s.o.Logger.Info("the consumer is as the subscriber needs it again", "subscriber", s.o.Subscriber)
	}
}

// Problem returns what keeps events from the subscriber, as far as the consumer's settings show it; empty: nothing. It is safe
// for concurrent use.
func (s *Source) Problem() string {
	if problem := s.problem.Load(); problem != nil {
		return *problem
	}
	return ""
}
