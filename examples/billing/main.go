// Command billing is a service of its own that uses package outboxie: an API for invoices, a relay, and two subscribers. `billing migrate` makes
// the tables, and `billing serve` runs the parts that are named, all by default. The README says how to try it.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"golang.org/x/sync/errgroup"

	"github.com/assylzhan-a/outboxie"
)

const shutdownTimeout = 10 * time.Second // for requests that are being answered

// options are the flags of `billing serve`. Addresses of servers and what the engine needs come from the environment.
type options struct {
	parts      []string
	api, admin string // addresses
	mailer     string // URL
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "billing:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags, o := flag.NewFlagSet("billing", flag.ContinueOnError), options{}
	parts := flags.String("parts", "api,relay,balance,mailer", "what this process does")
	flags.StringVar(&o.api, "http", "127.0.0.1:8080", "address of the API")
	flags.StringVar(&o.admin, "admin", "127.0.0.1:8090", "address of probes, the operators' API and the console")
	flags.StringVar(&o.mailer, "mailer-url", os.Getenv("MAILER_URL"), "where the mailer posts events (MAILER_URL)")
	if len(args) == 0 || (args[0] != "migrate" && args[0] != "serve") {
		return errors.New("usage: billing migrate, or billing serve [flags]")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	o.parts = strings.Split(*parts, ",")

	engine, err := outboxie.Configure().Stream(stream, subjects).Source(source).Environment(os.Environ()).Build()
	if err != nil {
		return err
	}
	defer engine.Close()
	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	if args[0] == "migrate" {
		return migrate(ctx, engine, db)
	}
	return serve(ctx, engine, db, o)
}

func migrate(ctx context.Context, engine *outboxie.Engine, db *sql.DB) error {
	if err := engine.Migrate(ctx); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, schema)
	return err
}

// serve runs the parts until ctx ends, or until one of them fails.
func serve(ctx context.Context, engine *outboxie.Engine, db *sql.DB, o options) error {
	if err := declare(engine, o); err != nil {
		return err
	}
	admin, err := engine.Admin(outboxie.AdminOptions{}) // its token is in ADMIN_TOKEN
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	// The pages of the console stay open: their requests end with ctx.
	if err := listen(ctx, group, "admin", o.admin, &http.Server{Handler: admin, BaseContext: func(net.Listener) context.Context { return ctx }}); err != nil {
		return err
	}
	if slices.Contains(o.parts, "api") {
		api := newAPI(&Store{db: db, outbox: engine.Outbox()})
		if err := listen(ctx, group, "api", o.api, &http.Server{Handler: api}); err != nil {
			return err
		}
	}
	group.Go(func() error { return engine.Run(ctx) })
	return group.Wait()
}

// declare declares the parts of the engine that this process has.
func declare(engine *outboxie.Engine, o options) error {
	for _, part := range o.parts {
		var err error
		switch part {
		case "api": // it needs only the outbox
		case "relay":
			err = engine.Relay()
		case "balance":
			err = engine.Subscriber("balance", newBalance(), outboxie.SubscriberOptions{})
		case "mailer":
			if o.mailer == "" {
				return errors.New("the mailer needs -mailer-url")
			}
			err = engine.Subscriber("mailer", newMailer(o.mailer), outboxie.SubscriberOptions{Lanes: 8}) // 8 calls at a time
		default:
			err = fmt.Errorf("there is no part %q: use api, relay, balance and mailer", part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// listen serves until ctx ends, and then lets requests finish.
func listen(ctx context.Context, group *errgroup.Group, name, address string, server *http.Server) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server.ReadTimeout, server.IdleTimeout = requestTimeout, time.Minute
	slog.Info("listening", "for", name, "url", "http://"+listener.Addr().String())
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		return server.Shutdown(patient)
	})
	return nil
}
