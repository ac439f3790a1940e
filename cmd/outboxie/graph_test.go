package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/fx"
	"go.uber.org/goleak"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.MainInMemory(m) }

// everyGraph has each graph of the program, by the command that starts the graph.
func everyGraph(c config.Config) map[string]fx.Option {
	quiet := slog.New(slog.DiscardHandler)
	onlyAPI, onlyRelay := c, c
	onlyAPI.Roles, onlyRelay.Roles = config.Roles{API: true}, config.Roles{Relay: true}
	one := &supervisedRelay{name: "one", config: c, logger: quiet, meters: metricnoop.NewMeterProvider(), traces: tracenoop.NewTracerProvider()}
	c.Subscriber.ID = "graph"
	return map[string]fx.Option{
		"serve":       serveGraph(c, quiet),
		"serve api":   serveGraph(onlyAPI, quiet),
		"serve relay": serveGraph(onlyRelay, quiet),
		"subscribe":   subscribeGraph(c, quiet),
		"relay":       relaysGraph(c, []config.Relay{{Name: "one", Config: c}}, quiet),
		"one relay":   relayGraph(one),
	}
}

func TestGraphsAreValid(t *testing.T) {
	for name, graph := range everyGraph(config.Default()) {
		t.Run(name, func(t *testing.T) { require.NoError(t, fx.ValidateApp(graph)) })
	}
	t.Run("a graph with a missing part is not", func(t *testing.T) {
		require.Error(t, fx.ValidateApp(serving(config.Default())))
	})
}

// TestGraphsStartAndStop checks that each graph starts with real servers, and leaves no goroutine when it stops.
func TestGraphsStartAndStop(t *testing.T) {
	c := config.Default()
	c.Database.URL = config.URL(infra.Database(t))
	port := infra.Port(t)
	infra.StartNATSProcess(t, fmt.Sprintf("listen: 127.0.0.1:%d\njetstream { store_dir: %q, sync_interval: always }\n", port, t.TempDir()))
	c.NATS.URL = config.URL(fmt.Sprintf("nats://127.0.0.1:%d", port)) // NATS runs in its own process, so all goroutines are the program's
	c.HTTP, c.Playground.DataDir = config.HTTP{Addr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0"}, t.TempDir()
	for name, graph := range everyGraph(c) {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			app := fx.New(graph)
			require.NoError(t, app.Start(t.Context()))
			require.NoError(t, app.Stop(t.Context()))
			goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/assylzhan-a/outboxie/outboxietest/embedded"))
		})
	}
}

// TestDeadLoopEndsTheProgram checks that the program ends when a background loop ends by itself, in every way that a loop can end.
func TestDeadLoopEndsTheProgram(t *testing.T) {
	for name, loop := range map[string]func(context.Context) error{
		"error":  func(context.Context) error { return errors.New("broken") },
		"return": func(context.Context) error { return nil },
		"panic":  func(context.Context) error { panic("at the disco") },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			app := fx.New(fx.NopLogger, fx.Supply(slog.New(slog.NewTextHandler(&log, nil))),
				fx.Invoke(func(b background) { b.run("doomed", loop) }))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			require.ErrorContains(t, runApp(ctx, app), "a part of the program failed")
			require.NoError(t, ctx.Err())
			require.Contains(t, log.String(), "loop=doomed")
			require.Contains(t, log.String(), "shutting down")
		})
	}
}

// TestLoopThatFailsWhileStoppingIsLogged checks that the program stops cleanly, and logs the failure, if a loop fails while it stops.
func TestLoopThatFailsWhileStoppingIsLogged(t *testing.T) {
	var log bytes.Buffer
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	app := fx.New(fx.NopLogger, fx.Supply(slog.New(slog.NewTextHandler(&log, nil))),
		fx.Invoke(func(b background) {
			b.run("clumsy", func(ctx context.Context) error {
				stop()
				<-ctx.Done()
				panic("at the door")
			})
		}))
	require.NoError(t, runApp(ctx, app))
	require.Contains(t, log.String(), "loop=clumsy")
	require.Contains(t, log.String(), "at the door")
}

// TestStopWhileStarting checks that a program that gets a signal before it has started stops cleanly, and in order.
func TestStopWhileStarting(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var steps []string
	app := fx.New(fx.NopLogger, fx.Invoke(func(life fx.Lifecycle) {
		life.Append(fx.StopHook(func() { steps = append(steps, "first stops") }))
		life.Append(fx.StartStopHook(stop, func() { steps = append(steps, "second stops") }))
		life.Append(fx.StopHook(func() { steps = append(steps, "third stops") }))
	}))
	require.NoError(t, runApp(ctx, app))
	require.Equal(t, []string{"third stops", "second stops", "first stops"}, steps)
}

// command runs the program in this process.
func command(t *testing.T, environment []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	out, errs := &lines{}, &lines{} // a connection may still write after the program has ended
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	code = runContext(ctx, args, environment, out, errs)
	return code, out.String(), errs.String()
}

func TestExitCodesAndWords(t *testing.T) {
	database, nats := "DATABASE_URL="+infra.Database(t), "NATS_URL="+infra.Broker(t)
	taken := httpapi.NewAdmin(httpapi.AdminOptions{Addr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, taken.Listen(t.Context()))
	defer taken.Shutdown(t.Context()) //nolint:errcheck // it never served
	noToken := "ADMIN_TOKEN=off"
	for name, test := range map[string]struct {
		environment []string
		args        []string
		code        int
		stdout      string
		stderr      string
	}{
		"no command":           {nil, []string{}, exitClean, "Available Commands", ""},
		"help":                 {nil, []string{"serve", "--help"}, exitClean, "--roles", ""},
		"version":              {nil, []string{"version"}, exitClean, "outboxie ", ""},
		"--version":            {nil, []string{"--version"}, exitClean, "outboxie ", ""},
		"version as JSON":      {nil, []string{"version", "--json"}, exitClean, `"version": `, ""},
		"config as JSON":       {nil, []string{"config", "--json"}, exitClean, `"name": "HTTP_ADDR",`, ""},
		"unknown command":      {nil, []string{"sevre"}, exitUsage, "", `unknown command "sevre" for "outboxie"; did you mean serve?`},
		"help of nothing":      {nil, []string{"help", "sevre"}, exitUsage, "", `unknown command "sevre" for "outboxie"; did you mean serve?`},
		"a wrong number":       {[]string{database}, []string{"outbox", "list", "--limit", "x"}, exitUsage, "", `--limit is "x"; it must be a whole number`},
		"completion":           {nil, []string{"completion", "bash"}, exitClean, "complete -o default -F __start_outboxie outboxie", ""},
		"unknown verb":         {nil, []string{"subscriber", "puase"}, exitUsage, "", "For help: outboxie subscriber --help\n"},
		"unknown flag":         {nil, []string{"serve", "--port=1"}, exitUsage, "", "unknown flag: --port"},
		"no database":          {nil, []string{"serve"}, exitUsage, "", "DATABASE_URL"},
		"no id":                {[]string{database}, []string{"subscribe"}, exitUsage, "", "--id"},
		"unusable id":          {[]string{database}, []string{"subscribe", "--id", "a b"}, exitUsage, "", "--id"},
		"every problem":        {[]string{"OUTBOX_LEASE_TTL=soon", "LOG_LEVEL=loud"}, []string{"config"}, exitUsage, "", "LOG_LEVEL"},
		"bad telemetry":        {[]string{database, nats, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", noToken}, []string{"serve"}, exitUsage, "", "OTEL_"},
		"no place for a token": {[]string{database, nats, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "ADMIN_TOKEN_FILE=/dev/null/t"}, []string{"serve"}, exitUsage, "", "ADMIN_TOKEN_FILE cannot be used: "},
		"no read token":        {[]string{database, nats, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "ADMIN_TOKEN=0123456789abcdef", "ADMIN_READ_TOKEN_FILE=/dev/null/t"}, []string{"serve"}, exitUsage, "", "ADMIN_READ_TOKEN_FILE cannot be used: "},
		"a moved command":      {nil, []string{"dev", "--fresh"}, exitUsage, "", "dev is now: playground run, with the same flags"},
		"migrate what":         {[]string{database}, []string{"migrate"}, exitUsage, "", "up, down or status"},
		"migrate up again":     {[]string{database}, []string{"migrate", "up"}, exitClean, "", ""},
		"migrate status":       {[]string{database}, []string{"migrate", "status"}, exitClean, "applied", ""},
		"nobody there":         {[]string{"ADMIN_ADDR=127.0.0.1:1"}, []string{"healthcheck"}, exitFailed, "", "no instance answers: "},
		"address taken":        {[]string{database, nats, "HTTP_ADDR=" + taken.Addr(), "ADMIN_ADDR=127.0.0.1:0", noToken}, []string{"serve"}, exitFailed, "", taken.Addr() + ": listen"},
		"what to do about it":  {[]string{database, nats, "ADMIN_ADDR=" + taken.Addr(), "HTTP_ADDR=127.0.0.1:0", noToken}, []string{"serve"}, exitFailed, "", "--admin-addr"},
		"wrong password":       {[]string{regexp.MustCompile(`:[^:/@]+@`).ReplaceAllString(database, ":secret@")}, []string{"migrate", "up"}, exitUsage, "", "the password is wrong"},
		"not a database's URL": {[]string{"DATABASE_URL=mysql://root:secret@localhost/x"}, []string{"migrate", "up"}, exitUsage, "", "postgres://"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "bad telemetry" {
				t.Setenv("OTEL_TRACES_EXPORTER", "carrier-pigeon")
			}
			code, stdout, stderr := command(t, test.environment, test.args...)
			require.Equal(t, test.code, code, stderr)
			require.Contains(t, stdout, test.stdout)
			require.Contains(t, stderr, test.stderr)
			require.NotContains(t, stdout+stderr, "secret@")
		})
	}
}

func TestConfigHidesSecrets(t *testing.T) {
	code, stdout, _ := command(t, []string{"DATABASE_URL=postgres://me:hunter2@db/x", "NATS_URL=nats://token@nats:4222"}, "config")
	require.Equal(t, exitClean, code)
	require.Contains(t, stdout, "STREAM_NAME")
	require.NotContains(t, stdout, "hunter2")
	require.NotContains(t, stdout, "token@")
}

func TestMigrateDownAndUp(t *testing.T) {
	environment := []string{"DATABASE_URL=" + infra.Database(t)}
	code, before, _ := command(t, environment, "migrate", "status")
	require.Equal(t, exitClean, code)
	require.NotContains(t, before, "pending")
	code, _, stderr := command(t, environment, "migrate", "down", "--yes")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "--set engine or --set service")
	for _, set := range []string{"engine", "service"} {
		for range strings.Count(before, set+" ") {
			code, stdout, stderr := command(t, environment, "migrate", "down", "--set", set)
			require.Equal(t, exitUsage, code, stdout)
			require.Contains(t, stderr, "Lost: ")
			require.Contains(t, stderr, "with --yes")
			code, stdout, stderr = command(t, environment, "migrate", "down", "--set="+set, "--yes")
			require.Equal(t, exitClean, code, stderr)
			require.Contains(t, stdout, "Reverted")
		}
		code, stdout, _ := command(t, environment, "migrate", "down", "--set", set)
		require.Equal(t, exitClean, code)
		require.Contains(t, stdout, "No migration of the "+set+"'s tables is applied.")
	}
	_, down, _ := command(t, environment, "migrate", "status")
	require.NotContains(t, down, "applied")
	code, _, _ = command(t, environment, "migrate", "up")
	require.Equal(t, exitClean, code)
	_, up, _ := command(t, environment, "migrate", "status")
	require.NotContains(t, up, "pending")
}

// TestServeAndHealthcheck checks that healthcheck shows whether an instance is ready or degraded, and that the instance stops cleanly.
func TestServeAndHealthcheck(t *testing.T) {
	database, broker, data := infra.Database(t), infra.NATS(t), "OUTBOXIE_DATA_DIR="+t.TempDir()
	out := &lines{}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- runContext(ctx, []string{"serve", "--http-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0"},
			[]string{"DATABASE_URL=" + database, "NATS_URL=" + broker.URL, "INSTANCE_ID=me", data}, out, io.Discard)
	}()
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "became leader instance=me token=1") },
		20*time.Second, 10*time.Millisecond)
	admin := out.after(t, `server="admin listener" addr=`)

	check := func() (int, string) {
		code, stdout, _ := command(t, []string{"ADMIN_ADDR=" + admin, data}, "healthcheck")
		return code, stdout
	}
	code, answer := check()
	require.Equal(t, exitClean, code)
	require.Regexp(t, `^The instance at \S+ is ready.\ndatabase +ok\nbroker +ok\n`, answer)
	code, answer, _ = command(t, []string{"ADMIN_ADDR=" + admin, data}, "healthcheck", "--json")
	require.Equal(t, exitClean, code)
	require.Contains(t, answer, `"status":"ready"`)

	broker.Stop()
	require.Eventually(t, func() bool {
		code, answer = check()
		return code == exitClean && strings.Contains(answer, "degraded") && strings.Contains(answer, "not connected to NATS")
	}, 10*time.Second, 20*time.Millisecond, "orders are still accepted")
	for _, elsewhere := range []string{"OUTBOXIE_DATA_DIR=" + t.TempDir(), "ADMIN_TOKEN=of-another-instance", "ADMIN_TOKEN=off"} {
		code, answer, _ = command(t, []string{"ADMIN_ADDR=" + admin, elsewhere}, "healthcheck")
		require.Equal(t, exitClean, code, "readiness needs no token")
		require.Regexp(t, `(?m)^broker +failed$`, answer, "why is not")
	}
	broker.Start()
	require.Eventually(t, func() bool {
		_, answer = check()
		return strings.Contains(answer, " is ready.")
	}, 10*time.Second, 20*time.Millisecond)

	answered, err := http.Get("http://" + admin + "/healthz") //nolint:noctx // bounded by the test
	require.NoError(t, err)
	require.NoError(t, answered.Body.Close())
	require.Equal(t, http.StatusOK, answered.StatusCode)

	stop()
	require.Equal(t, exitClean, <-ended)
	require.Contains(t, out.String(), "lost leadership instance=me token=1 reason=resigned")
}

// lines keeps output. Goroutines may read it while others write.
type lines struct{ infra.Buffer }

// after waits for a line with a text, and returns the word that follows the text.
func (l *lines) after(t *testing.T, text string) string {
	t.Helper()
	var rest string
	require.Eventually(t, func() bool {
		_, after, found := strings.Cut(l.String(), text)
		rest = after
		return found && strings.Contains(after, "\n")
	}, 20*time.Second, 10*time.Millisecond, "%q was never said", text)
	return strings.Fields(rest)[0]
}
