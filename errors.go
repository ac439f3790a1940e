package outboxie

import (
	"errors"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// errors.Is finds these errors. Any other error of Append comes from the database, and errors.As finds the error of its driver.
var (
	// ErrVersionTaken reports that the aggregate already has an event of that version: another transaction was faster. Load the aggregate again.
	ErrVersionTaken error = relay.ErrVersionTaken
	// ErrInvalidEvent reports that an event can never be published. The error names the reason.
	ErrInvalidEvent error = outbox.ErrInvalidMessage
	// ErrIsolation reports that the transaction is REPEATABLE READ or SERIALIZABLE. There, a service that waits for the row of its aggregate gets
	// a serialization failure of Postgres, and not ErrVersionTaken.
	ErrIsolation error = postgres.ErrIsolation
	// ErrNotMigrated reports that the engine's tables are missing, or older than this version of the package. Migrate helps.
	ErrNotMigrated error = postgres.ErrSchema
	// ErrUnsafeDatabase reports that the database could lose events, because of a setting or of a changed table. The error names what to do.
	// Migrate and Run return it.
	ErrUnsafeDatabase error = postgres.ErrUnsafe
	// ErrStarted reports that a part was declared after Run had begun, or that Run was called again.
	ErrStarted = errors.New("the engine has started: declare every part before Run, and call Run once")
	// ErrClosed reports that the engine was closed. Run returns it if Close ended it.
	ErrClosed = errors.New("the engine is closed")
)
