package codec

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// The names of the types that Decode reads, without their version.
const (
	nameCreated   = "outboxie.order.created"
	namePaid      = "outboxie.order.paid"
	nameShipped   = "outboxie.order.shipped"
	nameCancelled = "outboxie.order.cancelled"
)

// upcaster turns the members of a payload into those of the next version, in place. It fails if the payload is not valid in its own version.
// It needs nothing besides the payload, because the same event must be the same whenever it is read.
type upcaster func(members map[string]json.RawMessage) error

// versions has the upcasters of each name. The first one turns version 1 into version 2, the second one version 2 into version 3, and so on.
// So the newest version is one more than there are upcasters, and the rest of Decode knows only the newest version.
//
// An upcaster stays for ever: the log and the stream can be read from the beginning again. To publish a new version, add its upcaster here,
// and deploy all readers before the first writer: docs/event-evolution.md has the steps.
var versions = map[string][]upcaster{
	nameCreated:   {},
	namePaid:      {},
	nameShipped:   {},
	nameCancelled: {},
}

// newest returns the name of the message's type, and its payload as the newest version of that type has it.
func (c *Codec) newest(message outbox.Message) (name string, members map[string]json.RawMessage, err error) {
	name, version := splitType(message.Type)
	upcasters, known := c.versions[name]
	switch {
	case !known || version < 1:
		return "", nil, errors.New("the type is unknown")
	case version > len(upcasters)+1:
		return "", nil, fmt.Errorf("the type is unknown: this program reads %s up to version %d", name, len(upcasters)+1)
	}
	if err := json.Unmarshal(message.Payload, &members); err != nil {
		return "", nil, err
	}
	for i, upcast := range upcasters[version-1:] {
		if members == nil { // the payload is null
			members = map[string]json.RawMessage{}
		}
		if err := upcast(members); err != nil {
			return "", nil, fmt.Errorf("version %d cannot be turned into version %d: %w", version+i, version+i+1, err)
		}
	}
	return name, members, nil
}

// splitType splits a type such as outboxie.order.created.v1 into its name and its version. The version is 0 if the type has none.
func splitType(kind string) (name string, version int) {
	at := strings.LastIndex(kind, ".v")
	if at < 0 {
		return kind, 0
	}
	version, err := strconv.Atoi(kind[at+2:])
	if err != nil || strconv.Itoa(version) != kind[at+2:] {
		return kind, 0
	}
	return kind[:at], version
}
