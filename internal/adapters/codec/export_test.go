package codec

import (
	"encoding/json"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// Upcaster is an upcaster.
type Upcaster = upcaster

// NewWithVersions returns a Codec of a program that has other upcasters for some names.
func NewWithVersions(newID func() string, others map[string][]Upcaster) *Codec {
	c := New(newID)
	c.versions = make(map[string][]upcaster)
	for name, upcasters := range versions {
		c.versions[name] = upcasters
	}
	for name, upcasters := range others {
		c.versions[name] = upcasters
	}
	return c
}

// Newest returns the name of the message's type, and its payload in the newest version of that type.
func (c *Codec) Newest(message outbox.Message) (name string, members map[string]json.RawMessage, err error) {
	return c.newest(message)
}
