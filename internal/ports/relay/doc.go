// Package relay has the interfaces of everything that the relay needs from the outside: a log to read, a stream to append to, a lease,
// a cursor, a parking lot and notifications. The relay in internal/app/relaying drives these interfaces; adapters implement them.
//
// An adapter makes each call once. It classifies a failure with the errors of this package or with a fault.Kind. An adapter never
// retries: the relay makes every retry decision.
//
// The package outboxietest/relaytest holds a contract suite for each interface. Every adapter passes it.
package relay
