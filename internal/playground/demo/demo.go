// Package demo shows the promises of Outboxie. It starts three instances and three subscribers, and places an order that reaches all
// subscribers. It kills the leader, and another instance takes over. At the end, nothing in the stream is lost, doubled or reordered. The
// same scenario runs on two kinds of fleets: child processes and containers.
//
// Package demo observes the program from outside, as users do: over HTTP, and by logs, tables and the stream. Run runs the scenario on a
// fleet.
package demo

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

// stopTimeout bounds the clean-up. The clean-up always runs.
const stopTimeout = 2 * time.Minute

// Run runs all steps on fleet and shows them on out, which may be a terminal. It ends with the first step that fails, or when ctx ends. In
// any case it stops and removes the fleet. If all steps succeed and stay is true, Run first waits until ctx ends.
func Run(ctx context.Context, fleet Fleet, out io.Writer, stay bool) error {
	began, c, s := time.Now(), newConsole(out), newScenario(fleet)
	c.say("Outboxie demo: three instances and three subscribers as\n%s\n", fleet)
	taken, err := c.runAll(ctx, slices.Concat(fleet.Steps(), s.steps()))
	took := time.Since(began)
	if err == nil && stay {
		c.say("\n%s\nEverything goes on until Ctrl-C:\n\n%s", s.summary(took), s.addresses())
		<-ctx.Done()
	}
	s.close()
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	stopErr := c.run(stopping, taken+1, Step{"Stop and remove everything", func(ctx context.Context, _ Note) (string, error) {
		return "", fleet.Stop(ctx)
	}})
	switch {
	case err != nil && stopErr != nil:
		return fmt.Errorf("%w; and the clean-up failed: %w", err, stopErr)
	case err != nil:
		return err
	case stopErr != nil:
		return fmt.Errorf("every step succeeded, but the clean-up failed: %w", stopErr)
	case !stay:
		c.say("\n%s", s.summary(time.Since(began)))
	}
	c.say("%s", c.color(green, "The demo succeeded."))
	return nil
}

// runAll runs steps up to the first one that fails, and returns how many it ran.
func (c *console) runAll(ctx context.Context, steps []Step) (int, error) {
	for i, step := range steps {
		err := c.run(ctx, i+1, step)
		if ctx.Err() != nil {
			return i + 1, fmt.Errorf("the demo was interrupted at step %d, %q", i+1, step.Name)
		}
		if err != nil {
			return i + 1, fmt.Errorf("the demo failed at step %d, %q: %w", i+1, step.Name, err)
		}
	}
	return len(steps), nil
}

// summary returns the table at the end of the demo.
func (s *scenario) summary(took time.Duration) string {
	found := func(check checker.Check) int { return s.verdict.Result(check).Count }
	first, second := s.failovers[0], s.failovers[1]
	rows := [][2]string{
		{"orders", fmt.Sprintf("%d accepted; %d requests sent again, with their key", s.client.accepted.Load(), s.client.again.Load())},
		{"stream", fmt.Sprintf("%d messages: %d lost, %d doubled, %d reordered",
			s.verdict.Result(checker.Duplicates).Of, found(checker.Loss), found(checker.Duplicates), found(checker.Sequence))},
		{"subscribers", fmt.Sprintf("%d: each event took effect once for each, %d in all", len(Subscribers), s.verdict.Result(checker.Effects).Of)},
		{"leaders", fmt.Sprintf("%s, then %s, then %s", first.killed.holder, first.successor.holder, second.successor.holder)},
		{"pauses", fmt.Sprintf("%s and %s without delivery, after a kill -9", seconds(first.pause), seconds(second.pause))},
		{"first trace", s.fleet.Traces().link(s.first.traceID)},
	}
	if s.fleet.Traces().StoppedWithFleet {
		rows = append(rows, [2]string{"", "Jaeger goes with the demo; with --stay, both go on until Ctrl-C"})
	}
	return table(append(rows, [2]string{"took", fmt.Sprintf("%.1f s", took.Seconds())}))
}

// addresses returns the addresses at which a user can look around.
func (s *scenario) addresses() string {
	rows := make([][2]string, 0, len(Instances))
	for _, instance := range Instances {
		rows = append(rows, [2]string{instance, s.fleet.API(instance) + "/orders"})
	}
	if s.fleet.Token() != "" {
		rows = append(rows, [2]string{"a token", "bin/outboxie token --customer " + uuid.NewString() + ", or --service NAME"})
	}
	return fmt.Sprintf("%s\n  export DATABASE_URL='%s' NATS_URL='%s'\n", table(rows), s.fleet.DatabaseURL(), s.fleet.BrokerURL())
}

func table(rows [][2]string) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		fmt.Fprintf(w, "  %s\t%s\n", row[0], row[1])
	}
	_ = w.Flush() // writing to memory cannot fail
	return text.String()
}
