package relaying

import (
	"context"
	"errors"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// A follower probes: it asks the broker whether the leader's process is there. A probe costs the database nothing. The follower also asks
// for the lease at least twice in the lease's time to live. So a follower gets the lease of a frozen leader within that time plus half a second.
const (
	maxCampaignInterval = 500 * time.Millisecond // between two tries for the lease
	probeInterval       = 100 * time.Millisecond // between two probes while the leader is there
	minProbeInterval    = 50 * time.Millisecond  // between two probes while the leader is gone, or while notifications arrive all the time
)

// Times in the conditions under which a leader counts as dead; see deadLeader.
const (
	minGoneTime   = 100 * time.Millisecond // longer than a leader needs to reconnect
	minSessionAge = 2 * time.Second        // longer than all processes need to reconnect after a restart of the broker
	earlyEndPause = 10                     // in units of LeaseTTL: how long no leader counts as dead for an instance whose term ended early
)

// campaign is what a follower knows about the leader, and about its own connection to the broker.
type campaign struct {
	leaderToken      int64     // token of the leader; 0: not known
	leaseAskedAt     time.Time // when this instance last asked for the lease
	goneSince        time.Time // since when every probe has found the leader gone; zero: the last probe found the leader
	abilityCheckedAt time.Time // when couldLead was last called
	ableToLead       bool      // what couldLead last returned

	session      uint64    // number of this instance's connection to the broker; see relay.ProbeResult
	sessionSince time.Time // when a probe first reported this session
}

func (r *Relay) campaignInterval() time.Duration { return min(r.opts.LeaseTTL/2, maxCampaignInterval) }

// Run asks for the lease, and leads while the relay holds the lease. When ctx ends, Run saves the cursor, frees the lease and returns
// nil. Outages do not end Run. While the relay is halted, Run does not ask for the lease, except to report the halt. The caller calls
// Run once.
func (r *Relay) Run(ctx context.Context) error {
	c, woken := &campaign{}, false
	for ctx.Err() == nil {
		if r.Status().Halt != nil {
			r.awaitRepair(ctx)
			*c = campaign{}
			continue
		}
		began, wait := time.Now(), r.campaignInterval()
		due, dead := c.leaderToken == 0 || time.Since(c.leaseAskedAt) >= r.campaignInterval(), int64(0)
		if c.leaderToken != 0 {
			vanished := r.probe(ctx, c)
			due = due || woken && !c.goneSince.IsZero() // the leader may have resigned
			wait = probeInterval
			if !vanished { // a leader that has only just vanished may have resigned; then its lease is free
				dead = r.deadLeader(ctx, c)
			}
		}
		if (due || dead != 0) && r.tryToLead(ctx, c, dead) {
			continue
		}
		if !c.goneSince.IsZero() {
			wait = minProbeInterval
		}
		woken = r.awaitWakeUp(ctx, began.Add(minProbeInterval), began.Add(wait))
	}
	return nil
}

// tryToLead asks for the lease, and leads if it gets the lease. It takes the lease even from a leader whose token is dead. It returns true
// if the caller must go on without a pause: after a term, or if the lease has another leader than the caller expected.
func (r *Relay) tryToLead(ctx context.Context, c *campaign, dead int64) (again bool) {
	c.leaseAskedAt = time.Now()
	term, err := r.Elector.Acquire(ctx, dead)
	if err == nil {
		if dead != 0 {
			r.logger.InfoContext(ctx, "the leader is gone; took its lease before the lease expired", "former_token", dead, "token", term.Token)
		}
		r.lead(ctx, term)
		*c = campaign{session: c.session, sessionSince: c.sessionSince}
		return true
	}
	if !errors.Is(err, relay.ErrLeaseHeld) && ctx.Err() == nil {
		r.reportTrouble(r.logger, err)
		return false
	}
	r.update(func(s *Status) { s.Trouble = "" })
	var held *relay.LeaseHeldError
	if !errors.As(err, &held) || held.Token == c.leaderToken {
		return false
	}
	c.leaderToken, c.goneSince = held.Token, time.Time{}
	return c.leaderToken != 0
}

// probe asks the broker whether the leader's process is there. It reports whether this probe is the first that finds the leader gone.
func (r *Relay) probe(ctx context.Context, c *campaign) (vanished bool) {
	asked := time.Now()
	result := r.Liveness.Probe(ctx, c.leaderToken)
	if result.Session != c.session || c.sessionSince.IsZero() {
		c.session, c.sessionSince, c.goneSince = result.Session, time.Now(), time.Time{}
	}
	switch {
	case !result.Gone:
		c.goneSince = time.Time{}
	case c.goneSince.IsZero():
		c.goneSince = asked
		return true
	}
	return false
}

// deadLeader returns the token of a leader that counts as dead, so that this instance can take the lease before it expires. It
// returns 0 if the leader does not count as dead.
//
// A wrong answer is safe, because the lease decides only who tries to publish. The stream's compare-and-swap refuses the appends of the
// former leader, and the fencing token refuses its writes, as if its lease had expired. A wrong answer costs a change of leadership.
// Four conditions keep wrong answers rare, and keep two instances from taking the lease from each other all the time:
//   - For minGoneTime the broker has known no process with the leader's token. A leader that only reconnects is back by then.
//   - This instance's connection to the broker is its first, or is older than minSessionAge. When a broker restarts, the leader
//     may reconnect later than the followers.
//   - In the last earlyEndPause times LeaseTTL, no term of this instance has ended early. It can happen that two instances do not see each
//     other through the broker, for example because rights are missing. Then they take the lease from each other once, and after that wait
//     until the lease expires.
//   - This instance could lead; see couldLead. It checks this while it waits for minGoneTime, at most once per campaignInterval.
func (r *Relay) deadLeader(ctx context.Context, c *campaign) int64 {
	now := time.Now()
	young := c.session != 0 && now.Sub(c.sessionSince) < minSessionAge
	endedEarly := !r.endedEarlyAt.IsZero() && now.Sub(r.endedEarlyAt) < earlyEndPause*r.opts.LeaseTTL
	if c.goneSince.IsZero() || young || endedEarly {
		return 0
	}
	if now.Sub(c.abilityCheckedAt) >= r.campaignInterval() {
		c.abilityCheckedAt, c.ableToLead = now, r.couldLead(ctx)
	}
	if !c.ableToLead || now.Sub(c.goneSince) < minGoneTime {
		return 0
	}
	return c.leaderToken
}

// couldLead reports whether this instance reaches the stream for which the cursor was saved. If this instance uses another broker, or is
// on the wrong side of a partition, it does not see the leader, but it cannot lead either.
func (r *Relay) couldLead(ctx context.Context) bool {
	bounded, cancel := context.WithTimeout(ctx, r.campaignInterval())
	defer cancel()
	info, err := r.Publisher.Look(bounded)
	if err != nil {
		return false
	}
	cursor, err := r.Cursors.Load(bounded)
	return err == nil && cursor.StreamCreated == info.Created
}

// awaitWakeUp waits until latest, or until a notification, but at least until earliest. It reports whether there was a notification.
func (r *Relay) awaitWakeUp(ctx context.Context, earliest, latest time.Time) (woken bool) {
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
