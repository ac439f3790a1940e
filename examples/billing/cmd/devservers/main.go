// Command devservers starts a Postgres, a NATS and an endpoint for the mailer, without Docker. Then it runs the program that its argument names,
// with `migrate` and with `serve`, and stops everything when that ends. It is for development: production has servers of its own.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
)

const token = "development-only-token"

func main() {
	embedded.SuperviseIfAsked()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1]); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "devservers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, program string) (err error) {
	quiet, data := slog.New(slog.DiscardHandler), ".billing"
	postgres, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{
		DataDir: embedded.PostgresFolder(data), Home: os.Getenv("OUTBOXIE_PG_HOME"), Logger: quiet,
	})
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, postgres.Stop()) }()
	nats, err := embedded.StartNATS(embedded.NATSOptions{StoreDir: embedded.NATSFolder(data), Logger: quiet})
	if err != nil {
		return err
	}
	defer nats.Stop()
	inbox := httptest.NewServer(http.HandlerFunc(letter))
	defer inbox.Close()

	os.Setenv("DATABASE_URL", postgres.URL())
	os.Setenv("NATS_URL", nats.URL())
	os.Setenv("MAILER_URL", inbox.URL)
	os.Setenv("ADMIN_TOKEN", token)
	fmt.Printf("API:     http://127.0.0.1:8080/invoices\nConsole: http://127.0.0.1:8090/console (token: %s)\n", token)
	fmt.Printf("Tables:  psql '%s'\nCtrl-C stops everything. The data stays in %s.\n\n", postgres.URL(), data)
	for _, command := range []string{"migrate", "serve"} {
		if err := start(ctx, program, command); err != nil {
			return err
		}
	}
	return nil
}

// start runs the program until it ends. If ctx ends, the program is asked to stop.
func start(ctx context.Context, program, command string) error {
	c := exec.CommandContext(ctx, program, command)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	return c.Run()
}

// letter shows a call of the mailer.
func letter(w http.ResponseWriter, r *http.Request) {
	fmt.Printf("mail:    %s, invoice %s, version %s\n", r.Header.Get("Event-Type"), r.Header.Get("Invoice"), r.Header.Get("Invoice-Version"))
	w.WriteHeader(http.StatusNoContent)
}
