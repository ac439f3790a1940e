package demo

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/assylzhan-a/outboxie/internal/playground/processes"
	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

// scenario is the course of the demo, the same on every fleet.
type scenario struct {
	fleet  Fleet
	client *client
	db     *sql.DB
	stream *follower

	first, second placed
	failovers     []*failover
	verdict       checker.Verdict
}

func newScenario(fleet Fleet) *scenario {
	return &scenario{fleet: fleet, client: newClient(fleet.API, fleet.Token)}
}

func (s *scenario) close() {
	if s.db != nil {
		_ = s.db.Close() // the demo only reads from it
	}
	if s.stream != nil {
		s.stream.stop()
	}
}

// steps returns the steps of the scenario in their order.
func (s *scenario) steps() []Step {
	return []Step{
		{"Place an order through app1", s.placeFirst},
		{"All three subscribers received it", s.receivedByAll(&s.first)},
		{"Its trace", s.traced},
		{"Who leads?", s.tellLeader},
		{"Kill the leader (kill -9) while orders flow", s.killLeader},
		{"Another instance takes over", s.takenOver},
		{"Place an order through app2", s.placeSecond},
		{"All three subscribers received it", s.receivedByAll(&s.second)},
		{"Start the killed instance again", s.restart},
		{"Load through all three, and once more kill the leader", s.underLoad},
		{"Nothing lost, nothing doubled, nothing reordered?", s.prove},
	}
}

func (s *scenario) placeFirst(ctx context.Context, _ Note) (string, error) {
	var err error
	if s.db, err = sql.Open("pgx", s.fleet.DatabaseURL()); err != nil {
		return "", err
	}
	if s.first, err = s.client.place(ctx, newCustomer().next(), Instances[0]); err != nil {
		return "", err
	}
	if s.stream, err = readStream(ctx, s.fleet.BrokerURL()); err != nil {
		return "", fmt.Errorf("read the stream %s: %w", streamName, err)
	}
	return fmt.Sprintf("POST %s/orders: 201 Created\norder %s", s.fleet.API(Instances[0]), s.first.ID), nil
}

// logged is the message that a subscriber logs for a new order.
const logged = "Received order created event"

func (s *scenario) receivedByAll(order *placed) func(context.Context, Note) (string, error) {
	return func(ctx context.Context, note Note) (string, error) {
		var lines []string
		for _, subscriber := range Subscribers {
			note("waiting for %s", subscriber)
			var line string
			err := processes.Await(ctx, 10*time.Millisecond, func() (bool, error) {
				log, err := s.fleet.Log(ctx, subscriber)
				line = received(log, order.ID)
				return line != "", err
			})
			if err != nil {
				return "", fmt.Errorf("%s did not receive order %s: %w", subscriber, order.ID, err)
			}
			lines = append(lines, subscriber+": "+line)
		}
		return strings.Join(lines, "\n"), nil
	}
}

// received returns the beginning of the log line about an order, or an empty text if there is none.
func received(log, order string) string {
	for line := range strings.Lines(log) {
		if before, after, is := strings.Cut(line, logged); is && strings.Contains(after, order) {
			return before + logged
		}
	}
	return ""
}

func (s *scenario) tellLeader(ctx context.Context, _ Note) (string, error) {
	l, err := s.leader(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s publishes for all three: it holds the lease, token %d", l.holder, l.token), nil
}

// leader waits until an instance of the fleet leads. Between two leaders, nobody leads for a moment.
func (s *scenario) leader(ctx context.Context) (l leadership, err error) {
	err = processes.Await(ctx, 20*time.Millisecond, func() (bool, error) {
		var err error
		l, err = leader(ctx, s.db)
		return slices.Contains(Instances, l.holder), err
	})
	if err != nil {
		err = fmt.Errorf("none of %s leads: %w", list(Instances), err)
	}
	return l, err
}

func (s *scenario) killLeader(ctx context.Context, _ Note) (string, error) {
	l, err := s.leader(ctx)
	if err != nil {
		return "", err
	}
	others := slices.DeleteFunc(slices.Clone(Instances), func(instance string) bool { return instance == l.holder })
	f, err := s.kill(ctx, l, 1, others)
	if err != nil {
		return "", err
	}
	s.failovers = append(s.failovers, f)
	return fmt.Sprintf("%s is dead; orders go on through %s", l.holder, list(others)), nil
}

func (s *scenario) takenOver(ctx context.Context, note Note) (string, error) {
	f := s.failovers[0]
	if err := s.awaitTakeOver(ctx, f, note); err != nil {
		return "", err
	}
	return f.String(), nil
}

// placeSecond places an order through app2, or through app3 if app2 was killed. It waits first: a subscriber that is behind would handle
// the order in a large batch, and log only the number of events in the batch.
func (s *scenario) placeSecond(ctx context.Context, note Note) (string, error) {
	note("waiting until everybody has caught up")
	if recovery := s.catchUp(ctx); len(recovery.Behind) > 0 {
		return "", fmt.Errorf("after the leader was killed, %s", strings.Join(recovery.Behind, "; "))
	}
	through, why := Instances[1], ""
	if s.failovers[0].killed.holder == through {
		through, why = Instances[2], fmt.Sprintf("%s was killed, so the order goes through %s:\n", through, Instances[2])
	}
	var err error
	if s.second, err = s.client.place(ctx, newCustomer().next(), through); err != nil {
		return "", err
	}
	return fmt.Sprintf("%sPOST %s/orders: 201 Created\norder %s", why, s.fleet.API(through), s.second.ID), nil
}

func (s *scenario) restart(ctx context.Context, _ Note) (string, error) {
	f := s.failovers[0]
	if err := s.bringBack(ctx, f); err != nil {
		return "", err
	}
	l, err := s.leader(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is ready; %s leads", f.killed.holder, l.holder), nil
}

func (s *scenario) bringBack(ctx context.Context, f *failover) error {
	if err := s.fleet.Restart(ctx, f.killed.holder); err != nil {
		return fmt.Errorf("start %s again: %w", f.killed.holder, err)
	}
	return nil
}

func (s *scenario) underLoad(ctx context.Context, note Note) (string, error) {
	l, err := s.leader(ctx)
	if err != nil {
		return "", err
	}
	note("orders flow through %s", list(Instances))
	accepted, again := s.client.accepted.Load(), s.client.again.Load()
	f, err := s.kill(ctx, l, 4, Instances)
	if err != nil {
		return "", err
	}
	s.failovers = append(s.failovers, f)
	if err := s.awaitTakeOver(ctx, f, note); err != nil {
		return "", err
	}
	if err := s.bringBack(ctx, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d orders; %d requests sent again with the same Idempotency-Key\n%s was killed, and is back; %s",
		s.client.accepted.Load()-accepted, s.client.again.Load()-again, f.killed.holder, f), nil
}

// String returns the outcome of the failover as text.
func (f *failover) String() string {
	return fmt.Sprintf("%s leads now, token %d\n"+
		"delivery paused for %s: NATS knew at once that %s was gone\n%d orders were accepted meanwhile",
		f.successor.holder, f.successor.token, seconds(f.pause), f.killed.holder, f.meanwhile)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// list joins names as in a sentence.
func list(names []string) string {
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
