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
			r.Found(Ghosts, "the inbox has an unknown subscriber %q", effect.Subscriber)
		case !is:
			r.Found(Ghosts, "%s applied event %s at position %d, which is not in the log", effect.Subscriber, effect.ID, effect.Position)
		case r.log[at].exempt:
			r.Found(Ghosts, "%s applied position %d, which is parked as %s", effect.Subscriber, effect.Position, r.parked[effect.Position].State)
		case applied[at]:
			r.Found(Effects, "%s applied position %d twice", effect.Subscriber, effect.Position)
		default:
			applied[at] = true
			walks[effect.Subscriber].step(r.log[at], fmt.Sprintf("position %d", effect.Position))
			if h.Service != nil {
				h.Service.Applied(effect)
			}
		}
	})
	r.Checked(Effects, len(r.log)*len(h.Subscribers), "effects")
	for _, subscriber := range h.Subscribers {
		r.judgeEffects(subscriber, slices.Contains(h.External, subscriber))
	}
	return err
}
