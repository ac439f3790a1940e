package checker

import (
	"fmt"
	"slices"
)

// readEffects compares the inbox with the log. For each subscriber, each event took effect once or has a dead letter. The effects of an
// aggregate's events are in the order of its versions.
func (r *run) readEffects(h History) error {
	walks := make(map[string]*walk)
	for _, subscriber := range h.Subscribers {
		r.applied[subscriber], walks[subscriber] = make([]bool, len(r.log)), newWalk(r, "effects of "+subscriber)
		walks[subscriber].discarded = r.discardedFor(subscriber)
	}
	err := each(h.Effects, "the inbox", func(effect Effect) {
		at, is := r.find(effect.Position, effect.ID)
		applied, known := r.applied[effect.Subscriber]
		switch {
		case !known:
			r.found(Ghosts, "the inbox has an unknown subscriber %q", effect.Subscriber)
		case !is:
			r.found(Ghosts, "%s applied event %s at position %d, which is not in the log", effect.Subscriber, effect.ID, effect.Position)
		case r.log[at].exempt:
			r.found(Ghosts, "%s applied position %d, which is parked as %s", effect.Subscriber, effect.Position, r.parked[effect.Position].State)
		case applied[at]:
			r.found(Effects, "%s applied position %d twice", effect.Subscriber, effect.Position)
		default:
			applied[at] = true
			walks[effect.Subscriber].step(r.log[at], fmt.Sprintf("position %d", effect.Position))
		}
	})
	r.addChecked(Effects, len(r.log)*len(h.Subscribers), fmt.Sprintf("effects, and the totals of %d customers", len(r.created)))
	for _, subscriber := range h.Subscribers {
		r.judgeEffects(subscriber, slices.Contains(h.External, subscriber))
	}
	return err
}

// readTotals compares the totals of subscribers with the orders that they have applied.
func (r *run) readTotals(h History) error {
	counting := slices.DeleteFunc(slices.Clone(h.Subscribers), func(id string) bool { return slices.Contains(h.External, id) })
	for _, subscriber := range counting {
		r.totals[subscriber] = make(map[account]Total)
	}
	err := each(h.Totals, "the totals", func(total Total) {
		if of, known := r.totals[total.Subscriber]; known {
			of[account{total.Customer, total.Currency}] = Total{Minor: total.Minor, Orders: total.Orders}
		}
	})
	for _, subscriber := range counting {
		counted, expected := r.totals[subscriber], r.expected(subscriber)
		for key := range r.created {
			if got, want := counted[key], expected[key]; got != want {
				r.found(Effects, "%s counted %d orders of %d for customer %s in %s, and applied %d of %d",
					subscriber, got.Orders, got.Minor, key.customer, key.currency, want.Orders, want.Minor)
			}
		}
		for key, got := range counted {
			if _, is := r.created[key]; !is {
				r.found(Effects, "%s counted %d orders for customer %s in %s, the log has none", subscriber, got.Orders, key.customer, key.currency)
			}
		}
	}
	return err
}

// expected returns the totals that follow from the events that a subscriber applied.
func (r *run) expected(subscriber string) map[account]Total {
	sums := make(map[account]Total)
	for at, e := range r.log {
		if e.order != nil && r.applied[subscriber][at] {
			sum := sums[e.order.account]
			sum.Minor, sum.Orders = sum.Minor+e.order.minor, sum.Orders+1
			sums[e.order.account] = sum
		}
	}
	return sums
}
