package subscribing_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// A subscriber applies an event once, although the stream holds the event twice. This is also the smallest complete wiring of a subscriber.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	// The stream holds an event, the same event again, and another event.
	stream, events := memory.NewStream(), relaytest.NewEntries(0, 2)
	_, opened := stream.Open(ctx, 1)
	_, published := stream.Publish(ctx, 0, events[:1])
	stream.AppendCopy(1)
	_, publishedMore := stream.Publish(ctx, 2, events[1:])

	// The handler applies the effect of an event. The second function learns that an effect is committed.
	handler := subscribing.NewHandler("emails", map[string]inbox.HandlerFunc{
		relaytest.EventType: func(_ context.Context, _ inbox.Tx, event outbox.Entry) error {
			fmt.Println("an email about", event.Key)
			return nil
		},
	}, func(_ context.Context, event outbox.Entry) {
		if event.ID == events[1].ID {
			stop()
		}
	})
	database := memory.NewInbox()
	subscriber := subscribing.New("emails", "copy-1", subscribing.Ports{
		Stream:      memory.NewReader(stream, "emails"),
		Checkpoints: database, Work: database, Letters: database, Sweeper: database, Log: database,
		Handlers: func(string) (inbox.Handler, error) { return handler, nil },
	}, subscribing.Options{}, slog.New(slog.DiscardHandler))

	fmt.Println(opened, published, publishedMore, subscriber.Run(ctx))
	// Output:
	// an email about thing/thing-0
	// an email about thing/thing-1
	// <nil> <nil> <nil> <nil>
}
