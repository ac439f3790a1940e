package memory

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

var _ operations.EffectReader = (*Inbox)(nil)

// Effects runs as one statement.
func (i *Inbox) Effects(ctx context.Context, eventIDs []string) (found []operations.Effect, err error) {
	err = i.once(ctx, "effects", func(*session) error {
		var asked []string
		for _, id := range eventIDs {
			if len(id) == len(uuid.Nil.String()) && uuid.Validate(id) == nil && !slices.Contains(asked, id) {
				asked = append(asked, id)
			}
		}
		var subscribers []string
		for key := range i.lanes {
			subscribers = append(subscribers, key.subscriber)
		}
		slices.Sort(subscribers)
		for _, name := range slices.Compact(subscribers) {
			for _, id := range asked {
				found = append(found, i.effectOf(name, id))
			}
		}
		return nil
	})
	return found, err
}

func (i *Inbox) effectOf(name, id string) operations.Effect {
	effect := operations.Effect{Subscriber: name, EventID: id}
	row, recorded := i.records[recordKey{name, id}]
	if row.applied {
		effect.AppliedAt = row.at
	}
	l, dead := i.letters[letterKey{name, id}]
	if dead {
		effect.Letter, effect.Error = i.state(letterKey{name, id}), l.Error
	}
	if effect.Sequence = row.sequence; effect.Sequence == 0 {
		effect.Sequence = l.sequence
	}
	effect.Wanted = recorded || dead || i.log != nil && i.subscribers[name].types[i.log.typeOf(id)]
	return effect
}

// typeOf returns the type of the committed event with an id, or "".
func (l *Log) typeOf(id string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.rows {
		if r != nil && r.committed && r.entry.ID == id {
			return r.entry.Type
		}
	}
	return ""
}
