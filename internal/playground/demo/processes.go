package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/assylzhan-a/outboxie/internal/playground/processes"
)

// Servers are the Postgres and the NATS that Processes share. Their data is in a folder of the demo.
type Servers interface {
	// Start starts both, and returns a text that says where they come from.
	Start(ctx context.Context, folder string, note Note) (said string, err error)
	// Stop stops the servers that were started. It is called once.
	Stop() error
	DatabaseURL() string
	BrokerURL() string
}

// Processes is a fleet of child processes, with servers started for it, in a temporary folder.
type Processes struct {
	program     string
	environment []string // of every process, beside the variables that the fleet sets
	port        int      // of the first instance; 0: all instances get free ports
	servers     Servers

	folder  string
	lock    *os.File
	started bool // the servers have started
	traces  Traces

	mu      sync.Mutex
	members map[string]*processes.Process
}

var _ Fleet = (*Processes)(nil)

// String returns the description for the heading of the demo.
func (f *Processes) String() string {
	return "processes, with a Postgres and a NATS of their own"
}

// NewProcesses returns a fleet of processes of a program. Its instances listen on port, port+1 and port+2. If port is 0, they listen on free
// ports. Every process gets environment.
func NewProcesses(program string, environment []string, port int, servers Servers) *Processes {
	return &Processes{
		program: program, environment: environment, port: port, servers: servers, members: make(map[string]*processes.Process),
	}
}

// Steps returns the steps that start the servers and all processes.
func (f *Processes) Steps() []Step {
	return []Step{
		{"Clean up", f.clean},
		{"Start Postgres and NATS", f.startServers},
		{"Start app1, app2 and app3", f.startInstances},
		{"Start subscriber1, subscriber2 and subscriber3", f.startSubscribers},
	}
}

const folderPattern = "outboxie-demo-*"

// clean removes the folders of demos that were killed. The processes of such a demo end with the demo. Postgres ends last, and may still be
// stopping.
func (f *Processes) clean(ctx context.Context, note Note) (string, error) {
	folders, err := filepath.Glob(filepath.Join(os.TempDir(), folderPattern))
	if err != nil {
		return "", err
	}
	said := "nothing was left of an earlier demo"
	for _, folder := range folders {
		lock, err := lockFolder(folder, 0)
		if err != nil {
			continue // the folder of a running demo, or of another user
		}
		note("removing %s", folder)
		var failed error
		err = processes.Await(ctx, 50*time.Millisecond, func() (bool, error) {
			failed = os.RemoveAll(folder)
			return failed == nil, nil
		})
		_ = lock.Close()
		if err != nil {
			return "", fmt.Errorf("%w: %w", err, failed)
		}
		said = "removed what an earlier demo left behind when it was killed"
	}
	return said, nil
}

// lockFolder takes the lock of a demo's folder. The lock ends with this process.
func lockFolder(folder string, flags int) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

func (f *Processes) startServers(ctx context.Context, note Note) (string, error) {
	var err error
	if f.folder, err = os.MkdirTemp("", folderPattern); err != nil {
		return "", err
	}
	if f.lock, err = lockFolder(f.folder, os.O_CREATE); err != nil {
		return "", err
	}
	if err := os.Chmod(f.folder, 0o755); err != nil { //nolint:gosec // Postgres runs as another user when root runs the demo
		return "", err
	}
	f.started = true
	said, err := f.servers.Start(ctx, f.folder, note)
	return said + "\ndata in " + f.folder, err
}

func (f *Processes) startInstances(ctx context.Context, note Note) (string, error) {
	if f.port != 0 {
		if err := processes.NeedFree(ctx, f.port, f.port+1, f.port+2); err != nil {
			return "", fmt.Errorf("%w: stop what listens there, or choose other ports with --port", err)
		}
	}
	f.traces = findJaeger(ctx, f.environment)
	for _, instance := range Instances {
		if err := f.startInstance(instance); err != nil {
			return "", err
		}
	}
	var urls []string
	for _, instance := range Instances {
		note("waiting for %s", instance)
		if err := f.awaitReady(ctx, instance); err != nil {
			return "", err
		}
		urls = append(urls, f.API(instance))
	}
	return list(urls), nil
}

func (f *Processes) startInstance(name string) error {
	port := 0
	if f.port != 0 {
		port = f.port + slices.Index(Instances, name)
	}
	address := "HTTP_ADDR=127.0.0.1:" + strconv.Itoa(port)
	return f.start(name, []string{address, "ADMIN_ADDR=127.0.0.1:0", "OUTBOXIE_ROLES=api,relay"}, "serve")
}

func (f *Processes) startSubscribers(ctx context.Context, note Note) (string, error) {
	for _, subscriber := range Subscribers {
		if err := f.start(subscriber, []string{"ADMIN_ADDR=127.0.0.1:0"}, "subscribe", "--id", subscriber); err != nil {
			return "", err
		}
	}
	for _, subscriber := range Subscribers {
		note("waiting for %s", subscriber)
		if err := f.awaitReady(ctx, subscriber); err != nil {
			return "", err
		}
	}
	return "each one has an inbox of its own, and gets every event", nil
}

func (f *Processes) start(name string, environment []string, args ...string) error {
	environment = slices.Concat(f.environment, environment, []string{
		"DATABASE_URL=" + f.servers.DatabaseURL(), "NATS_URL=" + f.servers.BrokerURL(),
		"ADMIN_TOKEN=", "ADMIN_TOKEN_FILE=" + filepath.Join(f.folder, "admin-token"), "ADMIN_READ_TOKEN=", "ADMIN_READ_TOKEN_FILE=", "ADMIN_ALLOWED_HOSTS=", "HTTP_ALLOWED_HOSTS=",
		"INSTANCE_ID=" + name, "STREAM_NAME=" + streamName, "LOG_LEVEL=info", "LOG_FORMAT=text",
	})
	if f.traces.Jaeger != "" {
		environment = append(environment, "OTEL_EXPORTER_OTLP_ENDPOINT="+localCollector, "OTEL_BSP_SCHEDULE_DELAY=200")
	}
	p, err := processes.Start(processes.Options{Name: name, Program: f.program, Args: args, Environment: environment})
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members[name] = p
	return nil
}

func (f *Processes) member(name string) *processes.Process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.members[name]
}

// awaitReady waits until a member reports that it is ready.
func (f *Processes) awaitReady(ctx context.Context, name string) error {
	p := f.member(name)
	err := processes.Await(ctx, 10*time.Millisecond, func() (bool, error) {
		admin, listens := p.LoggedAfter(`server="admin listener" addr=`)
		if err := p.Failure(); err != nil || !listens {
			return false, err
		}
		return processes.IsReady(ctx, admin), nil
	})
	if err != nil {
		return fmt.Errorf("%s is not ready: %w", name, err)
	}
	return nil
}

// API returns the address that the instance has logged.
func (f *Processes) API(instance string) string {
	addr, _ := f.member(instance).LoggedAfter("server=API addr=")
	return "http://" + addr
}

// Token returns no token: the API is on loopback, and does not ask.
func (f *Processes) Token() string { return "" }

// Kill fails if the process has ended by itself.
func (f *Processes) Kill(_ context.Context, instance string) error {
	p := f.member(instance)
	if err := p.Failure(); err != nil {
		return err
	}
	p.Kill()
	return nil
}

// Restart starts a new process with the same name.
func (f *Processes) Restart(ctx context.Context, instance string) error {
	if err := f.startInstance(instance); err != nil {
		return err
	}
	return f.awaitReady(ctx, instance)
}

// Log returns what the process has printed.
func (f *Processes) Log(_ context.Context, member string) (string, error) {
	p := f.member(member)
	return p.Log(), p.Failure()
}

// DatabaseURL returns the address of the Postgres of the fleet.
func (f *Processes) DatabaseURL() string { return f.servers.DatabaseURL() }

// BrokerURL returns the address of the NATS of the fleet.
func (f *Processes) BrokerURL() string { return f.servers.BrokerURL() }

// Traces returns the Jaeger of this machine, if there is one.
func (f *Processes) Traces() Traces { return f.traces }

// Stop ends the processes, then the servers, and removes the temporary folder.
func (f *Processes) Stop(context.Context) error {
	f.stopMembers()
	var err error
	if f.started {
		f.started, err = false, f.servers.Stop()
	}
	if f.folder != "" {
		err = errors.Join(err, os.RemoveAll(f.folder))
	}
	if f.lock != nil {
		_ = f.lock.Close()
	}
	return err
}

// stopMembers ends all processes, at once.
func (f *Processes) stopMembers() {
	f.mu.Lock()
	defer f.mu.Unlock()
	processes.Stop(slices.Collect(maps.Values(f.members))...)
}
