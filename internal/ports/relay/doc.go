// Package relay is what the relay needs from the outside: a log to read, a stream to append to, a lease, a cursor, a parking
// lot and notifications. The relay in internal/app/relaying drives these interfaces; adapters implement them.
//
// An adapter does one thing once and classifies what went wrong, with the errors of this package or with a fault.Kind. An
// adapter never retries: the relay makes every retry decision.
//
// The package outboxietest/relaytest holds a contract suite for each interface. Every adapter passes it.
package relay
