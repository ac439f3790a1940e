package demo

import (
	"context"
	"strings"

	"github.com/assylzhan-a/outboxie/internal/playground/processes"
)

// The names of the members of every fleet. The lease has the name of the instance that leads. An inbox has the name of its subscriber.
var (
	Instances   = []string{"app1", "app2", "app3"}
	Subscribers = []string{"subscriber1", "subscriber2", "subscriber3"}
)

// Fleet is three instances, three subscribers, and the Postgres and the NATS that they share, at the default STREAM_NAME.
// The demo calls one method at a time, except API, which may be called at any time.
type Fleet interface {
	// String describes how the members run, for example as processes.
	String() string
	// Steps returns the steps that start the fleet, in order. The first step removes what an earlier demo left behind.
	Steps() []Step
	// Stop ends and removes the whole fleet, however many steps were run. It may be called again.
	Stop(ctx context.Context) error

	// API returns the URL of an instance's API, without a slash at the end.
	API(instance string) string
	// Token returns the access token that the API asks for, or an empty string if the API does not ask.
	Token() string
	// Kill ends an instance without a warning (SIGKILL), and returns when it is dead.
	Kill(ctx context.Context, instance string) error
	// Restart starts an instance that was killed, and returns when it is ready.
	Restart(ctx context.Context, instance string) error
	// Log returns all that a member has logged so far. It fails if the member is dead although nobody killed it.
	Log(ctx context.Context, member string) (string, error)

	// DatabaseURL and BrokerURL return the addresses of the shared servers.
	DatabaseURL() string
	BrokerURL() string
	// Traces says where to see the traces of all members.
	Traces() Traces
}

// Traces says where a Jaeger is, or why there is none.
type Traces struct {
	Jaeger           string // its URL
	StoppedWithFleet bool   // it is stopped with the fleet
	None             string
}

// link returns the address of a trace, or the reason why there is none.
func (t Traces) link(id string) string {
	if t.Jaeger == "" {
		return t.None
	}
	return t.Jaeger + "/trace/" + id
}

// Step is one step of the demo.
type Step struct {
	Name string
	// Do runs the step, and returns the text to show. Meanwhile it may call note to show its progress.
	Do func(ctx context.Context, note Note) (string, error)
}

// Note shows what a step does at the moment. A line that is written to a Note is shown too.
type Note func(format string, v ...any)

// Write shows the last line of text.
func (n Note) Write(text []byte) (int, error) {
	if line := strings.TrimSpace(processes.LastLines(string(text), 1)); n != nil && line != "" {
		n("%s", line)
	}
	return len(text), nil
}
