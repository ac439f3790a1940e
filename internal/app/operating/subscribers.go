package operating

import (
	"context"
	"fmt"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// SubscriberPorts are the driven ports of Subscribers.
type SubscriberPorts struct {
	Operator inbox.Operator
	Stream   inbox.Stream
	Lags     operations.StreamLags
	Log      inbox.Log
}

// Subscribers lets people operate subscribers. It checks the stream before each change that depends on the stream.
type Subscribers struct{ SubscriberPorts }

var _ operations.SubscriberAdmin = (*Subscribers)(nil)

// NewSubscribers returns Subscribers. To call Summaries, only the Operator is needed.
func NewSubscribers(ports SubscriberPorts) *Subscribers { return &Subscribers{ports} }

// Subscribers returns where each subscriber stands, even if the stream cannot be asked.
func (s *Subscribers) Subscribers(ctx context.Context) (found operations.SubscriberList, err error) {
	overviews, err := s.Operator.Overviews(ctx)
	if err != nil {
		return found, err
	}
	found.All = make([]operations.SubscriberStatus, len(overviews))
	var places []operations.SubscriberProgress
	for n, overview := range overviews {
		found.All[n].Overview = overview
		if len(overview.Lanes) > 0 {
			lowest := inbox.Lowest(overview.Lanes)
			places = append(places, operations.SubscriberProgress{Subscriber: overview.Subscriber, Stream: lowest.Stream, Sequence: lowest.Sequence})
		}
	}
	found.StreamError = s.measure(ctx, found.All, places)
	return found, nil
}

// Summaries asks the database only.
func (s *Subscribers) Summaries(ctx context.Context, end uint64) ([]operations.SubscriberSummary, error) {
	overviews, err := s.Operator.Overviews(ctx)
	summaries := make([]operations.SubscriberSummary, len(overviews))
	for n, overview := range overviews {
		summaries[n].Overview = overview
		if len(overview.Lanes) > 0 {
			behind := end - min(inbox.Lowest(overview.Lanes).Sequence, end)
			summaries[n].MessagesBehind, summaries[n].Stalled = &behind, overview.Stalled(behind > 0)
		}
	}
	return summaries, err
}

// measure compares subscribers with the stream.
func (s *Subscribers) measure(ctx context.Context, all []operations.SubscriberStatus, places []operations.SubscriberProgress) error {
	state, err := s.Stream.State(ctx)
	if err != nil {
		return err
	}
	lags, err := s.Lags.LagsOf(ctx, places)
	if err != nil {
		return err
	}
	for n, status := range all {
		at := slices.IndexFunc(lags, func(lag operations.Lag) bool { return lag.Subscriber == status.Subscriber })
		if at < 0 {
			continue
		}
		all[n].Lag = &lags[at]
		for _, lane := range status.Lanes {
			behind := state.Last - min(lane.Sequence, state.Last)
			if lane.Stream != state.Created {
				behind = state.Last
			}
			all[n].MessagesBehind = append(all[n].MessagesBehind, behind)
		}
	}
	return nil
}

// Pause stops a subscriber.
func (s *Subscribers) Pause(ctx context.Context, subscriber string) error {
	if err := named(subscriber); err != nil {
		return err
	}
	return s.Operator.Pause(ctx, subscriber)
}

// Resume lets a subscriber go on.
func (s *Subscribers) Resume(ctx context.Context, subscriber string) error {
	if err := named(subscriber); err != nil {
		return err
	}
	return s.Operator.Resume(ctx, subscriber)
}

// Ignore makes a subscriber pass over a type from now on.
func (s *Subscribers) Ignore(ctx context.Context, subscriber, eventType string) (int, error) {
	if err := named(subscriber); err != nil {
		return 0, err
	}
	if !outbox.IsText(eventType) {
		return 0, inbox.ErrNotWanted.With("subscriber %s does not want the type %q", subscriber, eventType)
	}
	return s.Operator.Ignore(ctx, subscriber, eventType)
}

// named returns an error for a name that no subscriber can have, because no database stores it.
func named(subscriber string) error {
	if !outbox.IsText(subscriber) {
		return inbox.ErrNoSubscriber.With("there is no subscriber %q", subscriber)
	}
	return nil
}

// overview returns a subscriber that has lanes.
func (s *Subscribers) overview(ctx context.Context, subscriber string) (inbox.Overview, error) {
	overviews, err := s.Operator.Overviews(ctx)
	if err != nil {
		return inbox.Overview{}, err
	}
	at := slices.IndexFunc(overviews, func(o inbox.Overview) bool { return o.Subscriber == subscriber })
	switch {
	case at < 0:
		return inbox.Overview{}, inbox.ErrNoSubscriber.With("there is no subscriber %s", subscriber)
	case !overviews[at].Forgotten.IsZero():
		return inbox.Overview{}, inbox.ErrForgotten.With("subscriber %s was forgotten", subscriber)
	case len(overviews[at].Lanes) == 0:
		return inbox.Overview{}, inbox.ErrNotBegun.With("subscriber %s has not begun", subscriber)
	}
	return overviews[at], nil
}

// Plan finds the target in the stream, and counts the events that the move skips or repeats.
func (s *Subscribers) Plan(
	ctx context.Context, subscriber string, target operations.MoveTarget, forwards bool,
) (plan operations.MovePreview, err error) {
	overview, err := s.overview(ctx, subscriber)
	if err != nil {
		return plan, err
	}
	state, err := s.Stream.State(ctx)
	if err != nil {
		return plan, err
	}
	to, err := s.find(ctx, state, target, forwards)
	if err != nil {
		return plan, err
	}
	plan = preview(subscriber, inbox.Move{Stream: state.Created, To: to, Forwards: forwards}, overview.Lanes)
	if plan.Lanes == 0 {
		return plan, nothingToMove(plan)
	}
	from, until := to.Sequence, plan.Highest
	if forwards {
		from, until = plan.Lowest, to.Sequence
	}
	lags, err := s.Lags.LagsOf(ctx, []operations.SubscriberProgress{
		{Subscriber: "from", Stream: state.Created, Sequence: from}, {Subscriber: "until", Stream: state.Created, Sequence: until},
	})
	if err != nil {
		return plan, err
	}
	if len(lags) == 2 {
		plan.Events = max(0, lags[0].Events-lags[1].Events)
	}
	return plan, nil
}

// preview returns what a move does to lanes.
func preview(subscriber string, move inbox.Move, lanes []inbox.Checkpoint) operations.MovePreview {
	return operations.MovePreview{
		Subscriber: subscriber, Move: move, Lanes: len(move.Affected(lanes)),
		Lowest: inbox.Lowest(lanes).Sequence, Highest: inbox.Highest(lanes).Sequence,
	}
}

func nothingToMove(plan operations.MovePreview) error {
	if plan.Forwards {
		return operations.ErrNothingToMove.With(
			"subscriber %s stands at sequence %d or after it already, which is not before sequence %d: there is nothing to skip",
			plan.Subscriber, plan.Lowest, plan.To.Sequence)
	}
	return operations.ErrNothingToMove.With("subscriber %s has come to sequence %d, which is not after sequence %d: there is nothing to rewind",
		plan.Subscriber, plan.Highest, plan.To.Sequence)
}

// Move moves the lanes from where they stand now, which may differ from the plan.
func (s *Subscribers) Move(ctx context.Context, plan operations.MovePreview) (operations.MovePreview, error) {
	check := s.verifyLanes
	if plan.Forwards { // the events in between are skipped anyway
		check = func(context.Context, []inbox.Checkpoint) error { return nil }
	}
	before, err := s.Operator.Move(ctx, plan.Subscriber, plan.Move, check)
	if err != nil {
		return plan, err
	}
	done := preview(plan.Subscriber, plan.Move, before)
	done.Events = plan.Events
	if done.Lanes == 0 {
		return done, nothingToMove(done)
	}
	return done, nil
}

// SetLanes first checks that the stream still has the messages at the positions of the present lanes.
func (s *Subscribers) SetLanes(ctx context.Context, subscriber string, lanes int) (at uint64, before int, err error) {
	if lanes < 1 || lanes > inbox.MaxLanes {
		reason := fmt.Sprintf("must be from 1 to %d", inbox.MaxLanes)
		return 0, 0, operations.ErrLaneCount.With("%d lanes: the number %s", lanes, reason).On("lanes", reason)
	}
	if err := named(subscriber); err != nil {
		return 0, 0, err
	}
	present, err := s.Operator.SetLanes(ctx, subscriber, lanes, s.verifyLanes)
	if err != nil {
		return 0, 0, err
	}
	return inbox.Lowest(present).Sequence, len(present), nil
}

// eraseBatch is how many rows a statement erases, so that none takes long.
const eraseBatch = 5000

// Forget first leaves the tombstone. From then on the subscriber does nothing, even if its rows are not erased yet.
func (s *Subscribers) Forget(ctx context.Context, subscriber string) (erased int, err error) {
	if err := named(subscriber); err != nil {
		return 0, err
	}
	if err := s.Operator.Forget(ctx, subscriber); err != nil {
		return 0, err
	}
	return s.erase(ctx, subscriber)
}

func (s *Subscribers) erase(ctx context.Context, subscriber string) (erased int, err error) {
	for {
		count, err := s.Operator.Erase(ctx, subscriber, eraseBatch)
		erased += count
		if err != nil || count == 0 {
			return erased, err
		}
	}
}

// RemoveTombstone first erases the rows that an interrupted Forget has left.
func (s *Subscribers) RemoveTombstone(ctx context.Context, subscriber string) error {
	if err := named(subscriber); err != nil {
		return err
	}
	if _, err := s.erase(ctx, subscriber); err != nil {
		return err
	}
	return s.Operator.RemoveTombstone(ctx, subscriber)
}
