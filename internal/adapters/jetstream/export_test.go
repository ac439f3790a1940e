package jetstream

import (
	"github.com/nats-io/nats.go"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// Decode reads a message as a subscriber does.
var Decode = decode

// Encode makes a message as the publisher does, and returns the size of its headers.
func Encode(entry outbox.Entry) (*nats.Msg, int) {
	return newHeaders("/outboxie/orders").encode(entry, nil)
}

// EncodeRedriven makes a message as the publisher does when it redrives.
func EncodeRedriven(entry outbox.Entry, at outbox.Progress) (*nats.Msg, int) {
	return newHeaders("/outboxie/orders").encode(entry, &at)
}

// MetaOf reads the relay's headers of a message.
var MetaOf = metaOf

// Covers reports whether the first pattern matches every subject that the second one matches.
var Covers = covers

// ReconnectDelay returns how long the client waits before a try to reconnect.
var ReconnectDelay = reconnectDelay

// Forgeries are stored headers that look like a server's headers.
var Forgeries = forgeries
