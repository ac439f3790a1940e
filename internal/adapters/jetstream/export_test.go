package jetstream

import (
	"github.com/nats-io/nats.go"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// Decode reads a message as a subscriber does.
var Decode = decode

// Encode makes a message as the publisher does, and says how large its headers are.
func Encode(entry outbox.Entry) (*nats.Msg, int) { return newHeaders().encode(entry, nil) }

// EncodeRedriven makes a message as the publisher does when it redrives.
func EncodeRedriven(entry outbox.Entry, at outbox.Progress) (*nats.Msg, int) {
	return newHeaders().encode(entry, &at)
}

// StampOf reads what the engine wrote on a message.
var StampOf = metaOf

// Covers reports whether a pattern matches all that a subject matches.
var Covers = covers

// ReconnectDelay is how long the client waits before a try.
var ReconnectDelay = reconnectDelay

// Forgeries are headers that look like a server's.
var Forgeries = forgeries
