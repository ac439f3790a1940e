package inbox

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// EmitBuffer collects what the handlers of one transaction emit. Implementations of Emitter write it at the end of the transaction.
type EmitBuffer struct {
	messages []outbox.Message
	cause    string // id of the event that is being handled
	count    int    // messages that follow from that event so far
}

// Add adds the messages that a handler emits because of the event cause: all of them, or none if one is invalid.
func (b *EmitBuffer) Add(handler string, cause outbox.Entry, messages []outbox.Message) error {
	if b.cause != cause.ID {
		b.cause, b.count = cause.ID, 0
	}
	added := slices.Clone(messages)
	for n := range added {
		added[n].ID = EmittedID(handler, cause, b.count+n)
		if err := added[n].Validate(); err != nil {
			return err
		}
	}
	b.messages = append(b.messages, added...)
	b.count += len(added)
	return nil
}

// Len returns the number of messages.
func (b *EmitBuffer) Len() int { return len(b.messages) }

// Messages returns all messages, sorted by aggregate. So transactions that append for the same aggregates take the unique keys in the same
// order, and do not deadlock. The messages of one aggregate keep their order.
func (b *EmitBuffer) Messages() []outbox.Message {
	return slices.SortedStableFunc(slices.Values(b.messages), func(x, y outbox.Message) int {
		return cmp.Or(cmp.Compare(x.Key.Type, y.Key.Type), cmp.Compare(x.Key.ID, y.Key.ID))
	})
}

// EmittedID returns the id of the nth message, from 0 on, that a handler emits because of an event. The id follows from the arguments
// alone. An event may be handled again, because the database lost a commit, or because a subscriber of another name has the same handler.
// Then the messages get the same ids, so the log refuses them or every subscriber drops them. The id is a version 8 UUID. It begins with
// the time in the cause's id, so that ids of about the same time are close to each other in an index.
func EmittedID(handler string, cause outbox.Entry, n int) string {
	const timed = len("01934567-89ab-")
	sum := sha256.Sum256([]byte(handler + "\x00" + cause.ID + "\x00" + strconv.Itoa(n)))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	text := hex.EncodeToString(sum[:16])
	id := fmt.Sprintf("%s-%s-%s-%s-%s", text[:8], text[8:12], text[12:16], text[16:20], text[20:])
	if len(cause.ID) == len(id) {
		id = cause.ID[:timed] + id[timed:]
	}
	return id
}
