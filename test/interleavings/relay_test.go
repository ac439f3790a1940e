package interleavings_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

var fence = relay.WriteFence{Token: leaseToken, Revision: revision}

// cursors, parking and elector are the adapters of one side.
func cursors(s *side) *postgres.CursorStore {
	return postgres.NewCursorStore(s.db, relayName, "STREAM")
}
func parking(s *side) *postgres.Parking { return postgres.NewParking(s.db, relayName) }
func elector(s *side) *postgres.Elector {
	return postgres.NewElector(s.db, relayName, fmt.Sprint("instance ", s.index), leaseTTL)
}

func instanceHalts(s *side) *postgres.InstanceHalts {
	return postgres.NewInstanceHalts(s.db, relayName, "instance")
}

// parkingOperation returns an operation on the parking lot.
func parkingOperation(method, name string, do func(ctx context.Context, p *postgres.Parking) (string, error)) *operation {
	return &operation{
		name: name, methods: []string{method}, fenced: strings.HasPrefix(method, "relay.Parking."),
		do: func(ctx context.Context, s *side) (string, error) { return do(ctx, parking(s)) },
	}
}

func reconcile(name string, tail relay.MessageMeta, sequence uint64) *operation {
	o := parkingOperation("relay.Parking.Reconcile", name, func(ctx context.Context, p *postgres.Parking) (string, error) {
		settled, err := p.Reconcile(ctx, fence, tail, sequence, true)
		return fmt.Sprintf("%+v", settled), err
	})
	o.otherStream = sequence != lastSequence
	return o
}

func save(name string, position int, sequence uint64) *operation {
	return &operation{name: name, methods: []string{"relay.CursorStore.Save"}, fenced: true, do: func(ctx context.Context, s *side) (string, error) {
		cursor, err := cursors(s).Save(ctx, fence, relay.Cursor{Progress: at(position).Progress(), StreamCreated: "1", StreamSequence: sequence})
		return fmt.Sprintf("%+v", cursor), err
	}}
}

var relayOperations = []*operation{
	save("save the cursor", 8, 7),
	guessing(save("save the cursor further back", 4, 4), map[string]string{
		"ok {Progress:{Position:4 EventID:" + at(4).ID + "} StreamCreated:1 StreamSequence:4 PurgedTo:7 RecordedTo:2020-01-01 00:00:00 +0000 UTC Revision:4 Halt:<nil>}": "the answer names an event that a purge has removed; the relay halts because of PurgedTo, which is current",
	}),
	{name: "report a halt", methods: []string{"relay.CursorStore.Report"}, fenced: true, do: func(ctx context.Context, s *side) (string, error) {
		return "", cursors(s).Report(ctx, fence, relay.NewHalt(relay.HaltTailGone, "gone"))
	}},
	reconcile("reconcile: nothing", relay.MessageMeta{Own: true, Progress: at(7).Progress(), Event: 7, Redriven: true}, lastSequence),
	reconcile("reconcile: a notice", relay.MessageMeta{Own: true, Progress: at(8).Progress(), Parked: "too large", LastOwnSequence: 6}, 7),
	reconcile("reconcile: a notice of an event that was passed before", relay.MessageMeta{Own: true, Progress: at(4).Progress(), Parked: "too large", LastOwnSequence: 6}, 7),
	reconcile("reconcile: redriven", relay.MessageMeta{Own: true, Progress: at(7).Progress(), Event: 5, Redriven: true}, 8),
	guessing(reconcile("reconcile: lost", relay.MessageMeta{Own: true, Progress: at(4).Progress(), Event: 4}, 4), map[string]string{
		"ok {Waiting:true Lost:true}": "waiting and lost events are reported from before the write, which errs on the safe side",
	}),
	parkingOperation("relay.Parking.SetAside", "set events aside", func(ctx context.Context, p *postgres.Parking) (string, error) {
		aside, err := p.SetAside(ctx, fence, log[7:])
		return fmt.Sprint(aside), err
	}),
	parkingOperation("relay.Parking.Refuse", "refuse", func(ctx context.Context, p *postgres.Parking) (string, error) {
		return "", p.Refuse(ctx, fence, at(2), "still too large")
	}),
	{name: "purge", methods: []string{"relay.Retention.Purge"}, refuses: map[string]string{
		"ok 0": "if the relay has written since the statement's snapshot was taken, nothing is removed: the next purge does it",
	}, do: func(ctx context.Context, s *side) (string, error) {
		n, err := postgres.NewRetention(s.db, relayName).Purge(ctx, leaseToken, age, 10)
		return fmt.Sprint(n), err
	}},
	{name: "acquire", methods: []string{"relay.Elector.Acquire"}, do: func(ctx context.Context, s *side) (string, error) {
		term, err := elector(s).Acquire(ctx, 0)
		return fmt.Sprint(term.Token), err
	}},
	{name: "acquire from a holder that is gone", methods: []string{"relay.Elector.Acquire"}, do: func(ctx context.Context, s *side) (string, error) {
		term, err := elector(s).Acquire(ctx, leaseToken)
		return fmt.Sprint(term.Token), err
	}},
	{name: "record that an instance is halted", methods: []string{"relay.InstanceHalts.Record"}, do: func(ctx context.Context, s *side) (string, error) {
		return "", instanceHalts(s).Record(ctx, relay.NewHalt(relay.HaltTailGone, "gone"))
	}},
	{name: "record that no instance is halted", methods: []string{"relay.InstanceHalts.Record"}, do: func(ctx context.Context, s *side) (string, error) {
		return "", instanceHalts(s).Record(ctx, nil)
	}},
	{name: "renew", methods: []string{"relay.Elector.Renew"}, do: func(ctx context.Context, s *side) (string, error) {
		term, err := elector(s).Renew(ctx, relay.Term{Token: leaseToken})
		return fmt.Sprint(term.Token), err
	}},
	{name: "resign", methods: []string{"relay.Elector.Resign"}, do: func(ctx context.Context, s *side) (string, error) {
		return "", elector(s).Resign(ctx, relay.Term{Token: leaseToken})
	}},
	parkingOperation("operations.ParkingAdmin.Redrive", "redrive one aggregate", func(ctx context.Context, p *postgres.Parking) (string, error) {
		n, err := p.Redrive(ctx, &outbox.Key{Type: "order", ID: parked})
		return fmt.Sprint(n), err
	}),
	parkingOperation("operations.ParkingAdmin.Redrive", "redrive all", func(ctx context.Context, p *postgres.Parking) (string, error) {
		n, err := p.Redrive(ctx, nil)
		return fmt.Sprint(n), err
	}),
	parkingOperation("operations.ParkingAdmin.Discard", "discard: first of its aggregate", func(ctx context.Context, p *postgres.Parking) (string, error) {
		return "", p.Discard(ctx, 3)
	}),
	parkingOperation("operations.ParkingAdmin.Discard", "discard: second of its aggregate", func(ctx context.Context, p *postgres.Parking) (string, error) {
		return "", p.Discard(ctx, 6)
	}),
	parkingOperation("operations.ParkingAdmin.Discard", "discard: to be redriven", func(ctx context.Context, p *postgres.Parking) (string, error) {
		return "", p.Discard(ctx, 2)
	}),
	parkingOperation("operations.ParkingAdmin.RedriveChosen", "redrive chosen: first of its aggregate", func(ctx context.Context, p *postgres.Parking) (string, error) {
		n, err := p.RedriveChosen(ctx, []outbox.Position{2, 3}, operations.Choice{})
		return fmt.Sprint(n), err
	}),
	parkingOperation("operations.ParkingAdmin.RedriveChosen", "redrive chosen: all", func(ctx context.Context, p *postgres.Parking) (string, error) {
		n, err := p.RedriveChosen(ctx, []outbox.Position{2, 3, 6}, operations.Choice{})
		return fmt.Sprint(n), err
	}),
	parkingOperation("operations.ParkingAdmin.DiscardChosen", "discard chosen", func(ctx context.Context, p *postgres.Parking) (string, error) {
		n, err := p.DiscardChosen(ctx, []outbox.Position{2, 3}, operations.Choice{})
		return fmt.Sprint(n), err
	}),
	{name: "adopt (the cursor)", methods: []string{"operations.RelayRepair.Adopt"}, fenced: true, do: func(ctx context.Context, s *side) (string, error) {
		cursor := relay.Cursor{Progress: at(4).Progress(), StreamCreated: "1", StreamSequence: 7}
		return "", postgres.NewRelayAdmin(s.db, relayName, "STREAM").Adopt(ctx, revision, cursor, false)
	}},
	{name: "put the log in order", methods: []string{"operations.RelayRepair.Realign"}, do: func(ctx context.Context, s *side) (string, error) {
		moved, err := postgres.NewRelayAdmin(s.db, relayName, "STREAM").Realign(ctx, operations.Realignment{Position: 7})
		return fmt.Sprint(moved), err
	}},
	adoption("adopt (the whole command)"),
	adoption("adopt (the whole command), and a relay drains", relayScenario{}.run),
	{name: "report another halt", methods: []string{"relay.CursorStore.Report"}, in: &halted, fenced: true, do: func(ctx context.Context, s *side) (string, error) {
		return "", cursors(s).Report(ctx, fence, relay.NewHalt(relay.HaltTailGone, "gone"))
	}},
}

// adoption returns the operation that `outboxie outbox adopt --yes` performs when the stream is gone. If the cursor or the tail changed
// meanwhile, the operation tries again.
func adoption(name string, then ...func(ctx context.Context, s *side) (string, error)) *operation {
	return &operation{name: name, methods: []string{"operations.RelayRepair.Adopt"}, in: &halted, relay: true, do: func(ctx context.Context, s *side) (string, error) {
		adopter := operating.NewAdopter(postgres.NewRelayAdmin(s.db, relayName, "STREAM"), &gatedStream{StreamRepair: s.harness.stream, side: s})
		var err error
		for range 3 {
			var plan operating.Adoption
			if plan, err = adopter.Plan(ctx, nil); err == nil {
				err = adopter.Do(ctx, plan)
			}
			if !errors.Is(err, relay.ErrStaleRevision) && !errors.Is(err, relay.ErrTailMoved) {
				break
			}
		}
		if err != nil || len(then) == 0 {
			return "", err
		}
		s.step("the rest", unknown)
		s.free.Store(true)
		return then[0](ctx, s)
	}}
}
