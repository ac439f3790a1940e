package demo

import (
	"context"
	"strings"

	"github.com/assylzhan-a/outboxie/internal/playground/processes"
)

// The members of every fleet. An instance holds the lease under its name, a subscriber keeps its inbox under its own.
var (
	Instances   = []string{"app1", "app2", "app3"}
	Subscribers = []string{"subscriber1", "subscriber2", "subscriber3"}
)

// Fleet is three instances, three subscribers, and the Postgres and the NATS that they share, at the default STREAM_NAME.
// Its methods are called one at a time, but for API, which may be called at any moment.
type Fleet interface {
	// String says what the members run as.
	String() string
	// Steps bring the fleet up from nothing, in this order, after removing what an earlier demo left behind.
	Steps() []Step
	// Stop ends and removes all of it, whichever of the steps were taken. It may be called again.
	Stop(ctx context.Context) error

	// API is the URL at which an instance answers, with no slash at its end.
	API(instance string) string
	// Kill ends an instance without a warning (SIGKILL), and returns when it is dead.
	Kill(ctx context.Context, instance string) error
	// Restart starts an instance that was killed, and returns when it is ready.
	Restart(ctx context.Context, instance string) error
	// Log is all that a member has logged so far. It fails if the member is dead and was not killed.
	Log(ctx context.Context, member string) (string, error)

	// DatabaseURL and BrokerURL are where the shared servers are reached.
	DatabaseURL() string
	BrokerURL() string
	// Traces says where the traces of all members are to be seen.
	Traces() Traces
}

// Traces says where a Jaeger is, or why there is none to look at.
type Traces struct {
	Jaeger string // its URL
	Own    bool   // it is stopped with the fleet
	None   string
}

// link is where to see a trace, or why nowhere.
func (t Traces) link(id string) string {
	if t.Jaeger == "" {
		return t.None
	}
	return t.Jaeger + "/trace/" + id
}

// Step is one thing that the demo does.
type Step struct {
	Name string
	// Do does it, and returns what there is to see. Meanwhile it may note what it is at.
	Do func(ctx context.Context, note Note) (string, error)
}

// Note says what a step is at. A line that is written to it is a note, too.
type Note func(format string, v ...any)

// Write notes the last line of text.
func (n Note) Write(text []byte) (int, error) {
	if line := strings.TrimSpace(processes.LastLines(string(text), 1)); n != nil && line != "" {
		n("%s", line)
	}
	return len(text), nil
}
