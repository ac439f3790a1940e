package postgres

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

var _ operations.ConnectedProcesses = (*Processes)(nil)

// Processes finds the processes that are connected to the database by their application names, which every role may read. A pooler such as
// PgBouncer may hide these names.
type Processes struct{ db *bun.DB }

// NewProcesses returns a finder for the database db.
func NewProcesses(db *bun.DB) *Processes { return &Processes{db} }

// processesStatement takes a session of unknown type for a client: of a session of another role, a role without pg_read_all_stats sees the
// name and not the type.
const processesStatement = `
SELECT DISTINCT application_name FROM pg_stat_activity
WHERE datname = current_database() AND application_name <> '' AND coalesce(backend_type, 'client backend') = 'client backend'
ORDER BY application_name LIMIT 200`

// Processes runs one statement.
func (p *Processes) Processes(ctx context.Context) (names []string, err error) {
	if err := p.db.NewRaw(processesStatement).Scan(ctx, &names); err != nil {
		return nil, classify(ctx, fmt.Errorf("list the processes that are connected to the database: %w", err))
	}
	return names, nil
}
