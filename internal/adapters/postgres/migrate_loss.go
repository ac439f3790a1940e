package postgres

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"strings"

	"github.com/uptrace/bun"
)

// Loss is what is lost when a migration is taken back.
type Loss struct {
	Migration
	What   string      // a description for people
	Tables []TableLoss // tables that are dropped
}

// TableLoss is a table that is dropped.
type TableLoss struct {
	Name string
	Rows int64
}

// NewestMigration returns the newest applied migration of a set, and what is lost when it is taken back. found is false if there is none.
func NewestMigration(ctx context.Context, db *bun.DB, logger *slog.Logger, set Set) (loss Loss, found bool, err error) {
	steps, err := listSet(ctx, db, logger, set)
	if err != nil {
		return Loss{}, false, classify(ctx, fmt.Errorf("read the state of the %s's migrations: %w", set, err))
	}
	for _, step := range steps {
		if step.Applied {
			loss.Migration, found = step, true
		}
	}
	if !found {
		return Loss{}, false, nil
	}
	files, err := set.files()
	if err != nil {
		return Loss{}, false, err
	}
	text, err := fs.ReadFile(files, loss.Name)
	if err != nil {
		return Loss{}, false, err
	}
	var dropped []string
	loss.What, dropped = lossOf(text)
	for _, name := range dropped {
		table := TableLoss{Name: name}
		err := db.QueryRowContext(allow(ctx, operatorTime), "SELECT count(*) FROM ?", bun.Ident(name)).Scan(&table.Rows)
		if err != nil && sqlState(err) != "42P01" { // undefined table
			return Loss{}, false, classify(ctx, fmt.Errorf("count the rows of %s: %w", name, err))
		}
		loss.Tables = append(loss.Tables, table)
	}
	return loss, true, nil
}

var (
	lostLine = regexp.MustCompile(`^-- Lost: (.+)$`)
	dropLine = regexp.MustCompile(`^\s*DROP TABLE (?:IF EXISTS )?(\w+);`)
)

// lossOf reads the loss from the Down part of a migration: its description, and the tables that are dropped.
func lossOf(text []byte) (what string, dropped []string) {
	_, down, _ := bytes.Cut(text, []byte("-- +goose Down"))
	for lines := bufio.NewScanner(bytes.NewReader(down)); lines.Scan(); {
		if found := lostLine.FindStringSubmatch(lines.Text()); found != nil {
			what = strings.TrimSpace(found[1])
		}
		if found := dropLine.FindStringSubmatch(lines.Text()); found != nil {
			dropped = append(dropped, found[1])
		}
	}
	return what, dropped
}
