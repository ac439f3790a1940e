package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/assylzhan-a/outboxie/internal/adapters/embedded"
	"github.com/assylzhan-a/outboxie/internal/config"
)

// servers is what a command started for itself; nil where it was told of another.
type servers struct {
	postgres *embedded.Postgres
	nats     *embedded.NATS
}

// startPostgres starts a Postgres and puts its address into c.
func (s *servers) startPostgres(ctx context.Context, c *config.Config, logger *slog.Logger) (err error) {
	s.postgres, err = embedded.StartPostgres(ctx, embedded.PostgresOptions{
		DataDir: filepath.Join(c.Dev.DataDir, "postgres"), Port: c.Dev.PostgresPort, Fresh: c.Dev.Fresh, Home: c.Dev.PostgresHome,
		Logger: logger,
	})
	if err == nil {
		c.Database.URL = config.URL(s.postgres.URL())
	}
	return err
}

// startNATS starts a NATS and puts its address into c.
func (s *servers) startNATS(c *config.Config, logger *slog.Logger) (err error) {
	s.nats, err = embedded.StartNATS(embedded.NATSOptions{
		StoreDir: filepath.Join(c.Dev.DataDir, "nats"), Port: c.Dev.NATSPort, Logger: logger,
	})
	if err == nil {
		c.NATS.URL = config.URL(s.nats.URL())
	}
	return err
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

// watch ends with ctx, or with an error when Postgres dies.
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
