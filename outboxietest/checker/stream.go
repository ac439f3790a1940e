package checker

import (
	"strconv"
	"strings"
)

// readStream checks each message of the stream. A message that is neither an event of the log nor a control message about one is a ghost.
func (r *run) readStream(h History) error {
	walk := newWalk(r, "stream")
	var progress int64
	messages := 0
	err := each(h.Stream, "the stream", func(m Message) {
		messages++
		at, id := m.Position, m.ID
		if m.Progress != "" {
			position, event, _ := strings.Cut(m.Progress, "/")
			at, _ = strconv.ParseInt(position, 10, 64)
			id, _ = ParseID(event)
		}
		adopted := m.Type == typeAdopted || m.Type == typeConfirmed // the message names the position up to which the log was published; 0: none
		if _, is := r.find(at, id); !is && (!adopted || at > 0) {
			r.Found(Ghosts, "sequence %d: the message names event %s at position %d, which the log does not have", m.Sequence, id, at)
			return
		}
		redriven := m.Progress != "" && m.Type != typeParked
		if at < progress || at == progress && !redriven {
			r.Found(Sequence, "sequence %d: its progress is %d, after %d", m.Sequence, at, progress)
		}
		progress = max(progress, at)
		if adopted {
			return
		}
		if m.Type == typeParked {
			if _, is := r.parked[at]; !is {
				r.Found(Ghosts, "sequence %d: a control message that position %d was parked, which it was not", m.Sequence, at)
			}
			return
		}
		r.event(m, redriven, walk)
	})
	r.Checked(Duplicates, messages, "messages")
	r.Checked(Sequence, messages, "messages, and the effects")
	r.Checked(Ghosts, messages, "messages, and the effects")
	return err
}

// event checks a message that claims to be an event of the log.
func (r *run) event(m Message, redriven bool, walk *walk) {
	at, is := r.find(m.Position, m.ID)
	if !is {
		r.Found(Ghosts, "sequence %d: event %s is not in the log at position %d", m.Sequence, m.ID, m.Position)
		return
	}
	e := &r.log[at]
	if m.Aggregate != r.names[e.aggregate] || m.Version != e.version || content(m.Type, m.Subject, m.Payload) != e.content {
		r.Found(Ghosts, "sequence %d: event %s at position %d differs from the log", m.Sequence, m.ID, m.Position)
	}
	if e.stored {
		r.Found(Duplicates, "sequence %d: event %s, position %d, was in the stream before", m.Sequence, m.ID, m.Position)
		return
	}
	e.stored = true
	if redriven && !e.parked {
		r.Found(Sequence, "sequence %d: position %d comes late, and was never parked", m.Sequence, m.Position)
	}
	if e.exempt {
		r.Found(Ghosts, "sequence %d: event %s, position %d, is in the stream although it is parked as %s",
			m.Sequence, m.ID, m.Position, r.parked[m.Position].State)
	}
	walk.step(*e, "sequence "+strconv.FormatUint(m.Sequence, 10))
}

// walk checks the versions of each aggregate: they come in order, and no version is missing unless it was discarded.
type walk struct {
	run       *run
	where     string
	last      []int64
	discarded map[version]struct{} // versions that were discarded for this subscriber, besides those discarded from the log
}

func newWalk(r *run, where string) *walk {
	return &walk{run: r, where: where, last: make([]int64, len(r.names))}
}

func (w *walk) step(e row, at string) {
	last := &w.last[e.aggregate]
	if e.version <= *last {
		w.run.Found(Sequence, "%s, %s: version %d of %s comes after version %d", w.where, at, e.version, w.run.names[e.aggregate], *last)
		return
	}
	for missing := *last + 1; missing < e.version; missing++ {
		_, everywhere := w.run.discarded[version{e.aggregate, missing}]
		if _, here := w.discarded[version{e.aggregate, missing}]; !everywhere && !here {
			w.run.Found(Versions, "%s, %s: version %d of %s comes without version %d", w.where, at, e.version, w.run.names[e.aggregate], missing)
		}
	}
	*last = e.version
}
