package checker

import "fmt"

// callWalk checks the calls that an endpoint received for one subscriber, one after the other.
type callWalk struct {
	*walk
	index     map[ID]int // of the events in the log
	called    []bool     // for each row of the log
	succeeded []bool
	under     []int // by aggregate: the log index of the latest event that had a call, plus one; 0: no call yet
}

// readCalls compares the calls that an endpoint received with the log and the effects. The first call for an event comes after a successful
// call for the previous event of its aggregate, unless the previous event was discarded. Each event that took effect had a successful call.
// A call may be repeated at any time.
func (r *run) readCalls(h History) error {
	if len(h.External) == 0 {
		return nil
	}
	index := make(map[ID]int, len(r.log))
	for at, e := range r.log {
		index[e.id] = at
	}
	all := make(map[string]*callWalk)
	for _, subscriber := range h.External {
		c := &callWalk{
			walk: newWalk(r, "calls for "+subscriber), index: index,
			called: make([]bool, len(r.log)), succeeded: make([]bool, len(r.log)), under: make([]int, len(r.names)),
		}
		c.discarded = r.discardedFor(subscriber)
		all[subscriber] = c
	}
	calls := 0
	err := each(h.Calls, "the calls", func(call Call) {
		calls++
		if c, known := all[call.Subscriber]; known {
			c.judge(call)
		} else {
			r.Found(Ghosts, "a call for subscriber %q, which makes none", call.Subscriber)
		}
	})
	for _, subscriber := range h.External {
		for at, applied := range r.applied[subscriber] {
			if applied && !all[subscriber].succeeded[at] {
				r.Found(Effects, "%s applied position %d, and no call for it succeeded", subscriber, r.log[at].position)
			}
		}
	}
	r.Checked(Effects, calls, "effects and calls")
	return err
}

// judge checks a call that arrived or succeeded.
func (c *callWalk) judge(call Call) {
	r := c.run
	at, is := c.index[call.ID]
	if !is {
		r.Found(Ghosts, "%s: event %s is not in the log", c.where, call.ID)
		return
	}
	e := r.log[at]
	switch {
	case call.Aggregate != r.names[e.aggregate] || call.Version != e.version || call.Type != e.kind || content("", "", call.Payload) != e.body:
		r.Found(Ghosts, "%s: event %s, position %d, differs from the log", c.where, call.ID, e.position)
	case e.exempt:
		r.Found(Ghosts, "%s: position %d, which is parked as %s", c.where, e.position, r.parked[e.position].State)
	}
	switch {
	case call.Succeeded && !c.called[at]:
		r.Found(Ghosts, "%s: the call for position %d succeeded before it arrived", c.where, e.position)
	case call.Succeeded:
		c.succeeded[at] = true
	case !c.called[at]:
		c.called[at] = true
		c.first(at)
	}
}

// first checks the first call for an event.
func (c *callWalk) first(at int) {
	e := c.run.log[at]
	if before := c.under[e.aggregate] - 1; before >= 0 && !c.succeeded[before] {
		if _, discarded := c.discarded[version{e.aggregate, c.run.log[before].version}]; !discarded {
			c.run.Found(Sequence, "%s: version %d of %s before a call for version %d succeeded", c.where, e.version,
				c.run.names[e.aggregate], c.run.log[before].version)
		}
	}
	c.under[e.aggregate] = at + 1
	c.step(e, fmt.Sprintf("position %d", e.position))
}
