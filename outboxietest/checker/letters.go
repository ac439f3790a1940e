package checker

import "fmt"

// readLetters reads which events have or had a dead letter.
func (r *run) readLetters(h History) error {
	for _, subscriber := range h.Subscribers {
		r.letters[subscriber] = make(map[ID]string)
	}
	if h.Letters == nil {
		return nil
	}
	return each(h.Letters, "the dead letters", func(l Letter) {
		id, err := ParseID(l.ID)
		of, known := r.letters[l.Subscriber]
		if err != nil || !known {
			r.Found(Ghosts, "subscriber %q has a letter %q, which is no event of the log", l.Subscriber, l.ID)
			return
		}
		of[id] = l.State
	})
}

// discardedFor returns the versions that an operator discarded for a subscriber.
func (r *run) discardedFor(subscriber string) map[version]struct{} {
	versions := make(map[version]struct{})
	for _, e := range r.log {
		if r.letters[subscriber][e.id] == discarded {
			versions[version{e.aggregate, e.version}] = struct{}{}
		}
	}
	return versions
}

// judgeEffects finds events that a subscriber did not apply although it could. An event that cannot be handled has a dead letter. The later
// events of its aggregate have dead letters too. No other event ever had a letter. If the subscriber has external effects, the call for any
// event can fail, but not for ever.
func (r *run) judgeEffects(subscriber string, external bool) {
	letters, lettered := r.letters[subscriber], make([]bool, len(r.names)) // lettered: aggregates with a letter
	known := 0
	for at, e := range r.log {
		state, is := letters[e.id]
		_, poison := r.ledger.poison[e.id]
		_, failing := r.ledger.failing[e.id]
		_, unknown := r.ledger.unknown[unknown{subscriber, e.kind}]
		poison = poison && !external
		what := func(finding string) {
			r.Found(Effects, "%s, position %d, version %d of %s: %s", subscriber, e.position, e.version, r.names[e.aggregate], finding)
		}
		if is {
			known++
			if !poison && !failing && !unknown && !external && !lettered[e.aggregate] {
				what(fmt.Sprintf("has a letter, state %q, without a reason: it can be handled, and no earlier event of its aggregate has a letter", state))
			}
			lettered[e.aggregate] = true
		}
		switch applied := r.applied[subscriber][at]; {
		case applied && poison:
			what("was applied, although no subscriber can handle it")
		case applied && state != "":
			what("was applied, but has a letter that is " + state)
		case !applied && !e.exempt && state == "":
			what("was never applied, and has no letter")
		case state == discarded && !poison:
			what("was discarded, although subscribers can handle it")
		}
	}
	if strangers := len(letters) - known; strangers > 0 {
		r.Found(Ghosts, "%s has %d letters of events that are not in the log", subscriber, strangers)
	}
}
