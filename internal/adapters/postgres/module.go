package postgres

import (
	"log/slog"
	"time"

	"github.com/uptrace/bun"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// RelayOptions names the relay that this instance competes to run.
type RelayOptions struct {
	Name     string        // the name of its lease and its cursor; the same for all instances
	Stream   string        // the stream to which it publishes
	Holder   string        // the name of this instance
	LeaseTTL time.Duration // the same for all instances
}

// Module provides the ports that Postgres serves. It needs Options, RelayOptions and a logger. InboxOptions are optional. Module closes its
// pools when the graph stops. Nothing connects before the first statement.
var Module = fx.Module("postgres", fx.Provide(
	provideDB,
	fx.Annotate(provideLog, fx.As(fx.Self()), fx.As(new(relay.Log))),
	fx.Annotate(provideCursorStore, fx.As(new(relay.CursorStore))),
	fx.Annotate(provideRelayAdmin, fx.As(new(operations.RelayInspector)), fx.As(new(operations.EventLog)), fx.As(new(operations.RelayRepair)),
		fx.As(new(operations.ProgressReader))),
	fx.Annotate(provideParking, fx.As(new(relay.Parking)), fx.As(new(operations.ParkingAdmin))),
	fx.Annotate(provideRetention, fx.As(new(relay.Retention))),
	fx.Annotate(provideElector, fx.As(fx.Self()), fx.As(new(relay.Elector))),
	fx.Annotate(provideInstanceHalts, fx.As(new(relay.InstanceHalts))),
	fx.Annotate(NewUnitOfWork, fx.As(new(orders.UnitOfWork))),
	fx.Annotate(NewOrderReader, fx.As(new(orders.OrderReader))),
	fx.Annotate(NewTotals, fx.As(new(orders.Totals))),
	fx.Annotate(NewEmitter, fx.As(new(inbox.Emitter))),
	fx.Annotate(NewExpiredKeys, fx.As(new(orders.ExpiredKeys))),
	fx.Annotate(NewKeyRing, fx.As(new(orders.KeyRing))),
	fx.Annotate(NewInbox, fx.ParamTags(``, `optional:"true"`),
		fx.As(new(inbox.Checkpoints)), fx.As(new(inbox.UnitOfWork)), fx.As(new(inbox.DeadLetters)), fx.As(new(operations.DeadLetterAdmin)),
		fx.As(new(inbox.Sweeper)), fx.As(new(inbox.Log))),
	fx.Annotate(NewOperator, fx.As(new(inbox.Operator))),
	fx.Annotate(NewEffectReader, fx.As(new(operations.EffectReader))),
	fx.Annotate(NewProcesses, fx.As(new(operations.ConnectedProcesses))),
))

func provideDB(lifecycle fx.Lifecycle, options Options) (*bun.DB, error) {
	db, err := Open(options)
	if err != nil {
		return nil, err
	}
	lifecycle.Append(fx.StopHook(db.Close))
	return db, nil
}

func provideLog(db *bun.DB, relay RelayOptions, logger *slog.Logger) *Log {
	return NewLog(db, relay.Name, logger)
}

func provideCursorStore(db *bun.DB, relay RelayOptions) *CursorStore {
	return NewCursorStore(db, relay.Name, relay.Stream)
}

func provideRelayAdmin(db *bun.DB, relay RelayOptions) *RelayAdmin {
	return NewRelayAdmin(db, relay.Name, relay.Stream)
}

func provideParking(db *bun.DB, relay RelayOptions) *Parking { return NewParking(db, relay.Name) }

func provideInstanceHalts(db *bun.DB, relay RelayOptions) *InstanceHalts {
	return NewInstanceHalts(db, relay.Name, relay.Holder)
}

func provideRetention(db *bun.DB, relay RelayOptions) *Retention { return NewRetention(db, relay.Name) }

// provideElector gives the elector a small pool of its own, so that a drain at full speed does not delay a renewal.
func provideElector(lifecycle fx.Lifecycle, options Options, relay RelayOptions) (*Elector, error) {
	options.MaxOpenConns = 2
	db, err := provideDB(lifecycle, options)
	if err != nil {
		return nil, err
	}
	return NewElector(db, relay.Name, relay.Holder, relay.LeaseTTL), nil
}
