package relaying

import "time"

// Entries that are written without a notification are found only by reads that the leader makes by itself. After such an entry the leader
// reads again after a twentieth of the time that has passed since, but not before shortestPoll. So a steady writer waits for shortestPoll at
// most, a rare one for a twentieth of its pauses, and an idle leader soon reads only once in Options.Poll.
const (
	shortestPoll = 3 * time.Millisecond
	pollShare    = 20
)

// polling decides how long an idle leader waits for a notification before it reads the log without one. It decides only when the log is
// read, never what counts as read.
type polling struct {
	afterAny       backoff   // after any entry: its notification may have been lost
	unannouncedAt  time.Time // when entries without a notification were last found; zero: never
	unannouncedWas time.Time // the time before that
}

func newPolling(longest time.Duration) *polling {
	return &polling{afterAny: backoff{shortest: longest / 16, longest: longest}}
}

// next returns how long to wait.
func (p *polling) next() time.Duration {
	wait := p.afterAny.next()
	if !p.unannouncedAt.IsZero() {
		wait = min(wait, max(shortestPoll, time.Since(p.unannouncedAt)/pollShare))
	}
	return wait
}

// noteRead records the result of a read. announced reports whether the last wait ended with a notification.
//
// If a read after a notification finds nothing, the read before it came between a commit and its notification. So that read found entries
// with a notification, and does not count.
func (p *polling) noteRead(found, announced bool) {
	switch {
	case !found && announced:
		p.unannouncedAt = p.unannouncedWas
	case found && !announced:
		p.unannouncedWas, p.unannouncedAt = p.unannouncedAt, time.Now()
	}
	if found {
		p.afterAny.reset()
	}
}
