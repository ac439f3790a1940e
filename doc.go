// Package outboxie is a transactional outbox for services with Postgres and NATS JetStream. A service appends events in the transaction that
// changes its data. A relay publishes them once and in order, and subscribers apply each of them once, also after a crash, a failover, or
// an outage of the database or of the broker.
//
//	engine, err := outboxie.Configure().
//		Environment(os.Environ()). // DATABASE_URL, NATS_URL and so on
//		Stream("INVOICES", "invoices.>").
//		Source("/acme/billing").
//		Build()
//
// The parts of an Engine are independent of each other, and may be in one process or in many:
//   - Migrate makes the engine's own tables, and touches no other.
//   - An Outbox appends events in a transaction of the caller's: a *sql.Tx, a bun.Tx or a pgx.Tx.
//   - A relay publishes the events of the outbox. Of any number of relays for one stream, one works at a time; a lease in Postgres decides which.
//   - A subscriber reads the stream and calls a handler for each event. Copies of a subscriber share its work.
//   - Admin is an HTTP handler with probes, the operators' API and the console.
//
// Run runs the relay and the subscribers of an Engine until its context ends.
//
// # What is promised
//
// Every committed event reaches the stream once, and the events of an aggregate in the order of their versions. Each event has its effect on a
// subscriber once, if the handler writes only through the transaction that it gets. The events of an aggregate take effect in order. An event
// whose handler fails ten times becomes a dead letter: later events of its aggregate wait, and others do not. An external call may be repeated,
// with the same key. docs/guarantees.md lists what this depends on.
//
// An aggregate's versions begin at 1 and have no gaps. Two events of one version cannot both commit. The caller saves the aggregate before it
// appends, so that the aggregate's row is locked.
//
// # Several services
//
// An outbox belongs to one stream, and a stream to one outbox: Run refuses the relay of another stream on the same tables. Services that share a
// database need a schema each, by the parameter search_path of the URL. To handle the events of another service, build a second Engine with that
// stream and your own database, and declare only subscribers.
//
// # Errors
//
// Only the engine retries. Run returns an error if somebody has to change something first: a setting that could lose events, missing tables, a
// subscriber that was forgotten. Outages do not end Run; they are logged, measured, and shown by Admin. What cannot work is refused when it is
// declared, or by Build.
package outboxie
