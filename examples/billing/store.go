package main

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"

	"github.com/google/uuid"

	"github.com/assylzhan-a/outboxie"
)

//go:embed schema.sql
var schema string

// Store keeps invoices. It writes each change and its event in one transaction.
type Store struct {
	db     *sql.DB
	outbox *outboxie.Outbox
}

// Find returns an invoice, or errNotFound.
func (s *Store) Find(ctx context.Context, id string) (Invoice, error) {
	if uuid.Validate(id) != nil {
		return Invoice{}, errNotFound
	}
	invoice := Invoice{ID: id}
	err := s.db.QueryRowContext(ctx, "SELECT customer, cents, status, version FROM invoices WHERE id = $1", id).
		Scan(&invoice.Customer, &invoice.Cents, &invoice.Status, &invoice.Version)
	if errors.Is(err, sql.ErrNoRows) {
		return Invoice{}, errNotFound
	}
	return invoice, err
}

// Add saves a new invoice.
func (s *Store) Add(ctx context.Context, i Invoice) error {
	return s.save(ctx, i, "INSERT INTO invoices (id, customer, cents, status, version) VALUES ($1, $2, $3, $4, $5)",
		i.ID, i.Customer, i.Cents, i.Status, i.Version)
}

// Change loads an invoice, lets change change it, and saves it. It fails with errChanged if another request was faster.
func (s *Store) Change(ctx context.Context, id string, change func(*Invoice) error) (Invoice, error) {
	i, err := s.Find(ctx, id)
	if err != nil {
		return Invoice{}, err
	}
	if err := change(&i); err != nil {
		return Invoice{}, err
	}
	return i, s.save(ctx, i, "UPDATE invoices SET status = $2, version = $3 WHERE id = $1 AND version = $3 - 1", i.ID, i.Status, i.Version)
}

// save writes a row and the event of the change in one transaction, and wakes the relay. The row comes first, so that it is locked when the event
// gets its place in the outbox.
func (s *Store) save(ctx context.Context, i Invoice, statement string, args ...any) error {
	event, err := i.event()
	if err != nil {
		return err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	result, err := tx.ExecContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	if rows, err := result.RowsAffected(); err != nil || rows == 0 {
		return errors.Join(err, errChanged)
	}
	if err := s.outbox.Append(ctx, tx, event); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.outbox.Wake()
	return nil
}
