package relaying

import (
	"context"
	"errors"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// How often a follower asks. The broker is asked for the leader, which costs Postgres nothing; the lease is asked for at least
// twice per term, so that a frozen leader is followed within the time to live plus half a second.
const (
	slowestCampaign = 500 * time.Millisecond // between two tries for the lease
	probeEvery      = 100 * time.Millisecond // between two probes of a leader that is there
	fastestProbe    = 50 * time.Millisecond  // if it is gone, or the follower is woken, as a busy service does all the time
)

// When a leader counts as dead; see deserted.
const (
	goneFor      = 100 * time.Millisecond // a leader that only reconnects is back by then: the client's first tries are quick
	settledFor   = 2 * time.Second        // a broker that restarts makes everybody reconnect, each at another moment
	chastenedFor = 10                     // lease times
)

// campaign is what a follower knows about the leader and about its own view of the broker.
type campaign struct {
	token   int64     // of the leader's term; 0: not known
	asked   time.Time // when the lease was asked for last
	gone    time.Time // when the first of the probes was made that all found the leader gone; zero: the last one did not
	checked time.Time // when this instance last looked whether it could lead itself
	able    bool      // it could

	session uint64    // of the connection to the broker
	since   time.Time // when a probe saw this session first
}

func (r *Relay) campaignEvery() time.Duration { return min(r.opts.LeaseTTL/2, slowestCampaign) }

// Run campaigns for the lease and leads whenever it holds it, until ctx ends; then it saves its cursor, frees the lease
// and returns nil. Outages never end it. While the relay is halted it does not campaign. Run is called once.
func (r *Relay) Run(ctx context.Context) error {
	c, woken := &campaign{}, false
	for ctx.Err() == nil {
		if r.Status().Halt != nil {
			r.awaitRepair(ctx)
			*c = campaign{}
			continue
		}
		began, wait := time.Now(), r.campaignEvery()
		due, dead := c.token == 0 || time.Since(c.asked) >= r.campaignEvery(), int64(0)
		if c.token != 0 {
			vanished := r.probe(ctx, c)
			due = due || woken && !c.gone.IsZero() // it may have resigned
			wait = probeEvery
			if !vanished { // one that has just resigned is followed without a check
				dead = r.deserted(ctx, c)
			}
		}
		if (due || dead != 0) && r.tryToLead(ctx, c, dead) {
			continue
		}
		if !c.gone.IsZero() {
			wait = fastestProbe
		}
		woken = r.pause(ctx, began.Add(fastestProbe), began.Add(wait))
	}
	return nil
}

// tryToLead asks for the lease, also if it is held under the token dead, and leads if it gets it. It reports whether something
// is to be done at once: campaign again after leading, or look for a leader that was not known before.
func (r *Relay) tryToLead(ctx context.Context, c *campaign, dead int64) (again bool) {
	c.asked = time.Now()
	term, err := r.Elector.Acquire(ctx, dead)
	if err == nil {
		if dead != 0 {
			r.logger.InfoContext(ctx, "the leader is gone: took its lease before it ended", "former_token", dead, "token", term.Token)
		}
		r.lead(ctx, term)
		*c = campaign{session: c.session, since: c.since}
		return true
	}
	if !errors.Is(err, relay.ErrLeaseHeld) && ctx.Err() == nil {
		r.failed(r.logger, err)
		return false
	}
	r.update(func(s *Status) { s.Trouble = "" })
	var held *relay.LeaseHeldError
	if !errors.As(err, &held) || held.Token == c.token {
		return false
	}
	c.token, c.gone = held.Token, time.Time{}
	return c.token != 0
}

// probe asks the broker for the leader, and reports whether it is gone and was not before.
func (r *Relay) probe(ctx context.Context, c *campaign) (vanished bool) {
	asked := time.Now()
	sighting := r.Liveness.Probe(ctx, c.token)
	if sighting.Session != c.session || c.since.IsZero() {
		c.session, c.since, c.gone = sighting.Session, time.Now(), time.Time{}
	}
	switch {
	case !sighting.Gone:
		c.gone = time.Time{}
	case c.gone.IsZero():
		c.gone = asked
		return true
	}
	return false
}

// deserted returns the token of a leader that is dead, so that its lease can be taken before it ends; else 0.
//
// This is safe whatever the broker said and however wrong it was: the lease decides only who tries. What a former leader still
// sends is refused by the stream's compare-and-swap, and in Postgres by the token, as if its lease had run out. A wrong answer
// costs a change of leadership. The conditions keep wrong answers rare, and keep leaders from taking turns:
//   - The broker says for a while that nobody has announced the leader's token. A leader that only reconnects is back by then.
//   - The follower's own connection is its first, or has lasted for a while. When a broker restarts, the leader may be back
//     later than the follower.
//   - No term of this instance was cut short lately. Two instances that cannot see each other, in a partition or because their
//     rights are incomplete, take the lease from each other once, and then wait for each other's lease.
//   - This instance could lead itself; see couldLead. It looks while it waits for the leader, and not more than twice a second.
func (r *Relay) deserted(ctx context.Context, c *campaign) int64 {
	now := time.Now()
	young := c.session != 0 && now.Sub(c.since) < settledFor
	chastened := !r.cutShort.IsZero() && now.Sub(r.cutShort) < chastenedFor*r.opts.LeaseTTL
	if c.gone.IsZero() || young || chastened {
		return 0
	}
	if now.Sub(c.checked) >= r.campaignEvery() {
		c.checked, c.able = now, r.couldLead(ctx)
	}
	if !c.able || now.Sub(c.gone) < goneFor {
		return 0
	}
	return c.token
}

// couldLead reports whether this instance reaches the stream that the cursor was saved for. On the wrong side of a partition,
// or at another broker, it sees no leader either.
func (r *Relay) couldLead(ctx context.Context) bool {
	bounded, cancel := context.WithTimeout(ctx, r.campaignEvery())
	defer cancel()
	info, err := r.Publisher.Look(bounded)
	if err != nil {
		return false
	}
	cursor, err := r.Cursors.Load(bounded)
	return err == nil && cursor.StreamCreated == info.Created
}

// pause waits until latest, or for a wake-up, but not less than until earliest. It reports whether there was a wake-up.
func (r *Relay) pause(ctx context.Context, earliest, latest time.Time) (woken bool) {
	timer := time.NewTimer(time.Until(latest))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return false
	case <-r.Listener.Notifications():
	}
	timer.Reset(time.Until(earliest))
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return true
}
