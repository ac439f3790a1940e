package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
)

// servers has the servers that a command started itself. A server is nil if the environment names another one.
type servers struct {
	postgres *embedded.Postgres
	nats     *embedded.NATS
}

// start starts a Postgres and a NATS on the data folder, and puts their addresses into c.
func (s *servers) start(ctx context.Context, c *config.Config, logger *slog.Logger) error {
	if err := embedded.Prepare(c.Playground.DataDir, c.Playground.Fresh); err != nil {
		return err
	}
	if err := s.startPostgres(ctx, c, logger); err != nil {
		return err
	}
	return s.startNATS(c, logger)
}

// startMissing starts the servers that the environment does not name. It refuses --fresh if the environment names one or both.
func (s *servers) startMissing(ctx context.Context, c *config.Config, logger *slog.Logger) error {
	var given []config.Name
	for _, name := range []config.Name{config.DatabaseURL, config.NATSURL} {
		if c.Given(name) {
			given = append(given, name)
		}
	}
	if len(given) == 0 {
		return s.start(ctx, c, logger)
	}
	if c.Playground.Fresh {
		return errUsage.With("--fresh deletes the data of the Postgres and the NATS that this command runs, and %s names another server, whose data "+
			"would stay: the relay halts if only one of the two servers has its old data. Unset %s, or leave --fresh out", given[0], given[0])
	}
	err := embedded.FinishWipe(c.Playground.DataDir)
	if err == nil && !c.Given(config.DatabaseURL) {
		err = s.startPostgres(ctx, c, logger)
	}
	if err == nil && !c.Given(config.NATSURL) {
		err = s.startNATS(c, logger)
	}
	return err
}

func (s *servers) startPostgres(ctx context.Context, c *config.Config, logger *slog.Logger) (err error) {
	s.postgres, err = embedded.StartPostgres(ctx, embedded.PostgresOptions{
		DataDir: embedded.PostgresFolder(c.Playground.DataDir), Port: c.Playground.PostgresPort, Home: c.Playground.PostgresHome, Logger: logger,
	})
	if err == nil {
		c.Database.URL = config.URL(s.postgres.URL())
	}
	return err
}

func (s *servers) startNATS(c *config.Config, logger *slog.Logger) (err error) {
	s.nats, err = embedded.StartNATS(embedded.NATSOptions{
		StoreDir: embedded.NATSFolder(c.Playground.DataDir), Port: c.Playground.NATSPort, Logger: logger,
	})
	if err == nil {
		c.NATS.URL = config.URL(s.nats.URL())
	}
	return err
}

// databaseURL returns the URL for a terminal. It shows the password only if this process runs the server.
func (s *servers) databaseURL(c config.Config) string {
	if s.postgres != nil {
		return string(c.Database.URL)
	}
	return c.Database.URL.String()
}

// brokerURL returns the URL for a terminal, as databaseURL does.
func (s *servers) brokerURL(c config.Config) string {
	if s.nats != nil {
		return string(c.NATS.URL)
	}
	return c.NATS.URL.String()
}

func (s *servers) stop() error {
	if s.nats != nil {
		s.nats.Stop()
	}
	if s.postgres != nil {
		return s.postgres.Stop()
	}
	return nil
}

// watch returns when ctx ends, or returns an error when Postgres dies.
func (s *servers) watch(ctx context.Context) error {
	var died <-chan struct{}
	if s.postgres != nil {
		died = s.postgres.Done()
	}
	select {
	case <-ctx.Done():
		return nil
	case <-died:
		return fmt.Errorf("the Postgres in %s stopped", s.postgres.DataDir())
	}
}
