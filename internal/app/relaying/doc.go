// Package relaying moves events from the log to the stream. Any number of relays may run: New builds one from its ports, and Run
// works until its context ends.
//
//	             Run
//	              |
//	              v
//	       +-------------+
//	+----> |  following  | -- ctx ends -------------------------> Run returns
//	|      +-------------+                                             ^
//	|             | gets the lease                                     |
//	|             v                                                    |
//	|      +-----------------------------------------+                 |
//	|      | leading                                 |                 |
//	|      |                                         |                 |
//	|      |  take over -- finds the tail --> drain  | -- ctx ends --> resigned
//	|      |      ^                             |    |                 ^
//	|      |      +---- conflict, outage or ----+    |                 |
//	|      |            lost connection              |                 |
//	|      +-----------------------------------------+                 |
//	|             |                    |                               |
//	|             | loses the lease,   | finds a state that it         |
//	|             | or gives up        | must not repair by itself     |
//	|             |                    v                               |
//	|             |               +----------+                         |
//	|             |               |  halted  | -- ctx ends ------------+
//	|             v               +----------+
//	|             |                    | the cause has ended
//	|             |                    v
//	+-------------+--------------------+
//
// Following (campaign.go): another instance leads, or the database does not answer. The relay asks for the lease at least twice in the
// lease's time to live, and sooner if the broker reports that the leader's process is gone.
//
// Leading (lead.go, leadership.go): the relay holds the lease and renews it. First the relay takes over (takeover.go): it finds the last
// message that a relay wrote into the stream, and brings the parking lot and the cursor in line with this message. Then it drains
// (drain.go): it publishes the later entries of the log, parks the events that the broker can never store (parking.go), and removes
// old entries (purge.go). After each conflict, outage or lost connection it takes over again.
//
// Halted (halt.go): each automatic repair could lose or double events. The relay reports the reason and resigns. Then it checks at each
// poll whether the cause has ended. Meanwhile other instances may lead.
//
// Giving up: a leader that has had no success for a while resigns and lets another instance try; see giveUpAfter.
//
// Resigned: when its context ends, a leader saves the cursor and frees the lease, so that another relay can lead at once. A
// halted relay has resigned before. It only withdraws the report of its halt.
//
// The lease decides only which relay tries to publish. Every append is a compare-and-swap on the end of the stream, and every write to the
// database is fenced (relay.WriteFence). So if two relays believe that they lead, they waste work but do no harm. Every retry decision of
// the relay is in this package. docs/engine.md explains why nothing is lost and nothing is published twice.
package relaying
