package relaying_test

import (
	"fmt"
	"slices"
	"testing/synctest"
	"time"
)

// do carries out one step.
func (h *harness) do(s step, p schedule) {
	h.hit("do " + s.Do)
	switch s.Do {
	case "write", "open", "commit", "rollback", "poison":
		h.doWrite(s)
	case "fault", "reconcile late", "redrive late", "late", "slow", "former", "mislead":
		h.doFault(s)
	case "widen":
		h.stream.LimitPayload([]int{limit, 1 << 20}[s.A%2])
	case "narrow":
		if len(h.alive) > 0 {
			h.alive[s.A%len(h.alive)].narrow([]int{limit, limit, 0}[s.B%3])
		}
	case "remake":
		if p.Remakes {
			h.remake(s.A)
		}
	case "misdirect":
		h.misdirect()
	case "adopt":
		h.adoptSlowly(s)
	case "redrive":
		h.redrive(s.A)
	case "discard":
		h.discard(s.A)
	case "pass":
		time.Sleep(time.Duration(1<<(s.A%13)) * time.Millisecond)
	case "wait":
		time.Sleep(ttl / 2)
	case "start":
		if len(h.alive) < 3 {
			h.started++
			h.join(h.start(fmt.Sprintf("instance-%d", h.started)))
		}
	case "crash", "stop":
		if len(h.alive) > 0 {
			chosen := h.alive[s.A%len(h.alive)]
			if s.Do == "crash" {
				chosen.crash()
			} else {
				chosen.cancel()
			}
			h.leave(chosen)
		}
	case "stall":
		if len(h.alive) > 0 {
			h.alive[s.A%len(h.alive)].stall(time.Duration(s.B*12) * time.Millisecond)
		}
	case "disturb":
		h.disturb(s, p.Foreign)
	case "clock":
		h.lease.Advance(time.Duration(s.A*20-10_000) * time.Millisecond)
	}
	synctest.Wait()
}

// doWrite carries out a step of a transaction that writes to the log.
func (h *harness) doWrite(s step) {
	switch s.Do {
	case "write":
		if t, ok := h.begin(s.A, 1+s.B%6); ok {
			h.end(t, s.C%8 != 0)
			h.wakeSome(s.C)
		}
	case "open":
		if t, ok := h.begin(s.A, 1+s.B%3); ok {
			h.open = append(h.open, t)
		}
	case "commit", "rollback":
		if len(h.open) > 0 {
			i := s.A % len(h.open)
			h.end(h.open[i], s.Do == "commit")
			h.open = slices.Delete(h.open, i, i+1)
			h.wakeSome(s.C)
		}
	case "poison":
		if t, ok := h.beginWith(s.A, 1, poison); ok {
			h.end(t, true)
			h.wakeSome(s.C)
		}
	}
}

// doFault carries out a step that injects a fault into an instance.
func (h *harness) doFault(s step) {
	switch s.Do {
	case "fault": // for the next instance that calls the method
		for _, each := range h.alive {
			each.inject(methods[s.B%len(methods)], injectedFault{
				kind: faultKind(1 + s.C%int(faultKinds-1)), delay: time.Duration(1<<(s.A%13)) * time.Millisecond,
			})
		}
	case "reconcile late":
		if len(h.alive) > 0 {
			late := []faultKind{arriveLate, stallBefore}[s.C%2]
			h.alive[s.A%len(h.alive)].inject("Reconcile", injectedFault{kind: late, delay: time.Duration(1<<(s.B%14)) * time.Millisecond})
		}
	case "redrive late":
		if len(h.alive) > 0 {
			chosen := h.alive[s.C%len(h.alive)]
			chosen.inject("Redrive", injectedFault{kind: stallBefore, delay: ttl + time.Duration(s.B*8)*time.Millisecond})
			h.redrive(s.A)
		}
	case "late", "slow":
		for _, each := range h.alive {
			method := []string{"Publish", "Publish", "Redrive"}[s.C%3]
			each.inject(method, injectedFault{
				kind: map[string]faultKind{"late": stallBefore, "slow": stallAfter}[s.Do], delay: time.Duration(1<<(s.B%15)) * time.Millisecond,
			})
		}
	case "former":
		if len(h.alive) > 0 {
			length := h.stream.LastSequence()
			h.alive[s.A%len(h.alive)].askFormer(length-min(length, uint64(s.B%6)), time.Duration(1<<(s.C%14))*time.Millisecond)
		}
	case "mislead":
		if len(h.alive) > 0 {
			h.alive[s.A%len(h.alive)].mislead(s.B%4 != 0, time.Duration(1<<(s.C%14))*time.Millisecond)
		}
	}
}

func (h *harness) disturb(s step, foreign bool) {
	if length := h.stream.LastSequence(); foreign {
		h.hit("foreign message")
		_, _ = h.stream.Open(h.context(), 1)
		h.stream.AppendForeign()
	} else if length > 0 {
		h.hit("stream regressed")
		h.stream.LoseAfter(max(length-min(length, uint64(s.A%6)), h.stream.LastSequenceBefore(time.Now().Add(-healable))))
		for _, each := range h.alive {
			each.broker.Disconnect()
			each.broker.Reconnect()
		}
	}
}
