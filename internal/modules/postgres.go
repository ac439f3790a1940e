package modules

import (
	"log/slog"

	"github.com/uptrace/bun"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Postgres provides the ports that Postgres serves. It needs Options, RelayOptions and a logger. InboxOptions are optional. Postgres closes its
// pools when the graph stops. Nothing connects before the first statement.
var Postgres = fx.Module("postgres", fx.Provide(
	provideDB,
	fx.Annotate(provideLog, fx.As(fx.Self()), fx.As(new(relay.Log))),
	fx.Annotate(provideCursorStore, fx.As(new(relay.CursorStore))),
	fx.Annotate(provideRelayAdmin, fx.As(new(operations.RelayInspector)), fx.As(new(operations.EventLog)), fx.As(new(operations.RelayRepair)),
		fx.As(new(operations.ProgressReader))),
	fx.Annotate(provideParking, fx.As(new(relay.Parking)), fx.As(new(operations.ParkingAdmin))),
	fx.Annotate(provideRetention, fx.As(new(relay.Retention))),
	fx.Annotate(provideElector, fx.As(fx.Self()), fx.As(new(relay.Elector))),
	fx.Annotate(provideInstanceHalts, fx.As(new(relay.InstanceHalts))),
	fx.Annotate(postgres.NewUnitOfWork, fx.As(new(orders.UnitOfWork))),
	fx.Annotate(postgres.NewOrderReader, fx.As(new(orders.OrderReader))),
	fx.Annotate(postgres.NewTotals, fx.As(new(orders.Totals))),
	fx.Annotate(postgres.NewEmitter, fx.As(new(inbox.Emitter))),
	fx.Annotate(postgres.NewExpiredKeys, fx.As(new(orders.ExpiredKeys))),
	fx.Annotate(postgres.NewKeyRing, fx.As(new(orders.KeyRing))),
	fx.Annotate(postgres.NewInbox, fx.ParamTags(``, `optional:"true"`),
		fx.As(new(inbox.Checkpoints)), fx.As(new(inbox.UnitOfWork)), fx.As(new(inbox.DeadLetters)), fx.As(new(operations.DeadLetterAdmin)),
		fx.As(new(inbox.Sweeper)), fx.As(new(inbox.Log))),
	fx.Annotate(postgres.NewOperator, fx.As(new(inbox.Operator))),
	fx.Annotate(postgres.NewEffectReader, fx.As(new(operations.EffectReader))),
	fx.Annotate(postgres.NewProcesses, fx.As(new(operations.ConnectedProcesses))),
))

func provideDB(lifecycle fx.Lifecycle, options postgres.Options) (*bun.DB, error) {
	db, err := postgres.Open(options)
	if err != nil {
		return nil, err
	}
	lifecycle.Append(fx.StopHook(db.Close))
	return db, nil
}

func provideLog(db *bun.DB, relay postgres.RelayOptions, logger *slog.Logger) *postgres.Log {
	return postgres.NewLog(db, relay.Name, logger)
}

func provideCursorStore(db *bun.DB, relay postgres.RelayOptions) *postgres.CursorStore {
	return postgres.NewCursorStore(db, relay.Name, relay.Stream)
}

func provideRelayAdmin(db *bun.DB, relay postgres.RelayOptions) *postgres.RelayAdmin {
	return postgres.NewRelayAdmin(db, relay.Name, relay.Stream)
}

func provideParking(db *bun.DB, relay postgres.RelayOptions) *postgres.Parking {
	return postgres.NewParking(db, relay.Name)
}

func provideInstanceHalts(db *bun.DB, relay postgres.RelayOptions) *postgres.InstanceHalts {
	return postgres.NewInstanceHalts(db, relay.Name, relay.Holder)
}

func provideRetention(db *bun.DB, relay postgres.RelayOptions) *postgres.Retention {
	return postgres.NewRetention(db, relay.Name)
}

// provideElector gives the elector a small pool of its own, so that a drain at full speed does not delay a renewal.
func provideElector(lifecycle fx.Lifecycle, options postgres.Options, relay postgres.RelayOptions) (*postgres.Elector, error) {
	options.MaxOpenConns = 2
	db, err := provideDB(lifecycle, options)
	if err != nil {
		return nil, err
	}
	return postgres.NewElector(db, relay.Name, relay.Holder, relay.LeaseTTL), nil
}
