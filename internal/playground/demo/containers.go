package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/assylzhan-a/outboxie/internal/playground/processes"
)

// ComposeFile is the path, from the root of the repository, of the compose file for a fleet of containers.
const ComposeFile = "docker/compose.distributed.yaml"

// Containers is a fleet of Docker containers, run by Docker Compose. It has its own Compose project, so it does not touch other containers,
// or the data of the same compose file under the usual project name.
type Containers struct {
	program     string // makes tokens
	environment []string
	token       string            // for the API
	usable      bool              // Docker can be used
	killed      map[string]bool   // the instances that Kill has ended and Restart has not started again
	addresses   map[string]string // of the published ports, by service
}

var _ Fleet = (*Containers)(nil)

// String returns the description for the heading of the demo.
func (f *Containers) String() string {
	return "Docker containers, with a Postgres, a NATS and a Jaeger of their own"
}

// published has the ports in the containers, by service. On this machine the instances get 8081 and the next two ports. Jaeger gets its
// usual port if that is free. The others get free ports.
var published = map[string]string{
	"app1": "8080", "app2": "8080", "app3": "8080", "postgres": "5432", "nats": "4222", "jaeger": "16686",
}

var instancePorts = []int{8081, 8082, 8083}

const jaegerPort = 16686

// NewContainers returns a fleet from ComposeFile in the current folder. Its image reports this version. The program makes the token for its API.
func NewContainers(program string, environment []string, version string) (*Containers, error) {
	if _, err := os.Stat(ComposeFile); err != nil {
		return nil, fmt.Errorf("containers need the repository's %s: run this in its root (%w)", ComposeFile, err)
	}
	return &Containers{program: program, killed: make(map[string]bool), addresses: make(map[string]string), environment: slices.Concat(environment, []string{
		"COMPOSE_FILE=" + ComposeFile, "COMPOSE_PROJECT_NAME=outboxie-demo", "VERSION=" + version,
		"POSTGRES_PORT=0", "NATS_PORT=0", "OTLP_PORT=0",
	})}, nil
}

// Steps returns the steps that build the image and start all containers.
func (f *Containers) Steps() []Step {
	return []Step{
		{"Clean up", f.clean},
		{"Build the image", f.build},
		{"Start Postgres, NATS, Jaeger, app1-3 and subscriber1-3", f.start},
	}
}

// clean checks whether Docker can be used, and removes what an earlier demo left behind.
func (f *Containers) clean(ctx context.Context, note Note) (string, error) {
	engine, err := f.docker(ctx, note, "version", "--format", "{{.Server.Version}}")
	if err != nil {
		return "", fmt.Errorf("no Docker engine answers; without --docker none is needed: %w", err)
	}
	compose, err := f.compose(ctx, note, "version", "--short")
	if err != nil {
		return "", fmt.Errorf(
			"a Docker engine answers, but there is no `docker compose`: install the Compose plugin, 2.20 or newer: %w", err)
	}
	if old(compose) {
		return "", fmt.Errorf("Docker Compose is version %s; %s needs 2.20 or newer", compose, ComposeFile)
	}
	f.usable = true
	if err := f.remove(ctx, note); err != nil {
		return "", err
	}
	if err := processes.NeedFree(ctx, instancePorts...); err != nil {
		return "", fmt.Errorf("%w: stop what listens there (`make docker-stop-distributed` stops that set-up)", err)
	}
	if processes.NeedFree(ctx, jaegerPort) != nil {
		f.environment = append(f.environment, "JAEGER_PORT=0")
	}
	return fmt.Sprintf("Docker %s with Compose %s; nothing is left of an earlier demo", engine, compose), nil
}

// old reports whether a version of Compose is too old to include other files.
func old(compose string) bool {
	var major, minor int
	_, err := fmt.Sscanf(strings.TrimPrefix(compose, "v"), "%d.%d", &major, &minor)
	return err == nil && (major < 2 || major == 2 && minor < 20)
}

func (f *Containers) build(ctx context.Context, note Note) (string, error) {
	if _, err := f.compose(ctx, note, "build"); err != nil {
		return "", err
	}
	size, err := f.docker(ctx, note, "image", "ls", "outboxie", "--format", "{{.Repository}}:{{.Tag}}, {{.Size}}")
	return size, err
}

// keyFolder is where ComposeFile expects the key of the tokens.
const keyFolder = ".outboxie"

// makeToken makes a token, and the key that the containers need in order to check it.
func (f *Containers) makeToken(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, f.program, "token", "--service", "demo")
	cmd.Env = append(slices.Clone(f.environment), "OUTBOXIE_DATA_DIR="+keyFolder, "AUTH_ISSUER=", "AUTH_AUDIENCE=", "AUTH_JWKS_URL=", "AUTH_JWKS_FILE=")
	said, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w%s", err, processes.LastLines(string(failed.Stderr), 5))
		}
		return fmt.Errorf("make a token for the API, with a key in %s: %w", keyFolder, err)
	}
	f.token = strings.TrimSpace(string(said))
	return nil
}

// Token returns a token of a service.
func (f *Containers) Token() string { return f.token }

func (f *Containers) start(ctx context.Context, note Note) (string, error) {
	if err := f.makeToken(ctx); err != nil {
		return "", err
	}
	if _, err := f.compose(ctx, note, "up", "--detach", "--wait"); err != nil {
		return "", err
	}
	for service, port := range published {
		address, err := f.compose(ctx, note, "port", service, port)
		if err != nil {
			return "", err
		}
		f.addresses[service] = address
	}
	var urls []string
	for _, instance := range Instances {
		urls = append(urls, f.API(instance))
	}
	return strings.Join(append(urls, f.DatabaseURL(), f.BrokerURL(), f.Traces().Jaeger), "\n"), nil
}

// Stop removes the containers with their volumes, if Docker can be used.
func (f *Containers) Stop(ctx context.Context) error {
	if !f.usable {
		return nil
	}
	return f.remove(ctx, nil)
}

func (f *Containers) remove(ctx context.Context, note Note) error {
	_, err := f.compose(ctx, note, "down", "--volumes", "--remove-orphans", "--timeout", "10")
	return err
}

// API returns the published address of the container.
func (f *Containers) API(instance string) string { return "http://" + f.addresses[instance] }

// Kill sends SIGKILL to the container.
func (f *Containers) Kill(ctx context.Context, instance string) error {
	_, err := f.compose(ctx, nil, "kill", "--signal", "SIGKILL", instance)
	f.killed[instance] = err == nil
	return err
}

// Restart starts the container, and waits until its health check succeeds.
func (f *Containers) Restart(ctx context.Context, instance string) error {
	if _, err := f.compose(ctx, nil, "start", instance); err != nil {
		return err
	}
	f.killed[instance] = false
	var failed error
	err := processes.Await(ctx, 100*time.Millisecond, func() (bool, error) {
		_, failed = f.compose(ctx, nil, "exec", "-T", instance, "/outboxie", "healthcheck")
		return failed == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%s is not ready: %w: %w", instance, err, failed)
	}
	return nil
}

// Log returns what the container has printed.
func (f *Containers) Log(ctx context.Context, member string) (string, error) {
	log, err := f.compose(ctx, nil, "logs", "--no-log-prefix", "--no-color", member)
	if err != nil || f.killed[member] {
		return log, err
	}
	running, err := f.compose(ctx, nil, "ps", "--quiet", "--status", "running", member)
	if err == nil && running == "" {
		err = fmt.Errorf("the container %s ended by itself; the end of its log:%s", member, processes.LastLines(log, 5))
	}
	return log, err
}

// DatabaseURL returns the published address of the container postgres.
func (f *Containers) DatabaseURL() string {
	return "postgres://outboxie:outboxie@" + f.addresses["postgres"] + "/outboxie?sslmode=disable"
}

// BrokerURL returns the published address of the container nats.
func (f *Containers) BrokerURL() string { return "nats://" + f.addresses["nats"] }

// Traces returns the Jaeger of the fleet.
func (f *Containers) Traces() Traces {
	return Traces{Jaeger: "http://" + f.addresses["jaeger"], StoppedWithFleet: true}
}

func (f *Containers) compose(ctx context.Context, note Note, args ...string) (string, error) {
	return f.docker(ctx, note, slices.Concat([]string{"compose"}, args)...)
}

// docker runs a command and returns its output. It shows output and errors as progress, and adds them to the error.
func (f *Containers) docker(ctx context.Context, note Note, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = f.environment
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // only the demo gets Ctrl-C
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var said, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&said, note), io.MultiWriter(&complaints, note)
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("docker %s: %w%s", strings.Join(args, " "), err, processes.LastLines(said.String()+complaints.String(), 10))
	}
	return strings.TrimSpace(said.String()), err
}
