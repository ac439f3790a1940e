package relaying_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// A relay moves an event from the log to the stream. This is its smallest complete wiring.
func Example() {
	log, stream, lease, notifier := memory.NewLog(), memory.NewStream(), memory.NewLease(10*time.Second), memory.NewNotifier()
	cursors := memory.NewCursorStore(lease, log)
	r := relaying.New(relaying.Ports{
		Log: log, Cursors: cursors, Publisher: stream, Parking: memory.NewParking(cursors), Retention: cursors,
		Elector: memory.NewElector(lease, "instance-1"), Halts: memory.NewHalts().Of("instance-1"),
		Liveness: memory.NewLiveness(memory.NewPresence()), Notifier: notifier, Listener: notifier,
	}, relaying.Options{
		LeaseTTL: 10 * time.Second, Poll: 100 * time.Millisecond, Batch: relay.ReadLimit{Count: 100, Bytes: 1 << 20},
	}, slog.New(slog.DiscardHandler))

	// The service appends an event in the transaction that changes an aggregate.
	ctx, stop := context.WithCancel(context.Background())
	tx := log.Begin()
	err := tx.Append(ctx, outbox.Message{
		ID: "event-1", Type: "thing.happened.v1", Subject: "things.happened",
		Key: outbox.Key{Type: "thing", ID: "7"}, Version: 1, Payload: []byte(`{"customer": "Ann"}`),
	})
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		fmt.Println(err)
	}

	// The relay publishes the event, and stops when its context ends.
	go func() {
		for r.Status().Position < 1 {
			time.Sleep(time.Millisecond)
		}
		stop()
	}()
	if err := r.Run(ctx); err != nil {
		fmt.Println(err)
	}
	for _, event := range stream.Entries() {
		fmt.Printf("%s at position %d: %s %s\n", event.Key, event.Position, event.Subject, event.Payload)
	}
	// Output:
	// thing/7 at position 1: things.happened {"customer": "Ann"}
}
