package postgres_test

import (
	"context"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/inboxtest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

const subscriber = "billing"

// longer are the calls whose statements get four times the usual time limit, because they count or search.
var longer = map[string]bool{
	"operations.ParkingAdmin.Redrive": true, "operations.RelayInspector.List": true, "operations.RelayInspector.Status": true, "operations.RelayRepair.CountAfter": true,
	"inbox.Log.ReadHole": true, "operations.ParkingAdmin.EachUndecided": true, "operations.DeadLetterAdmin.EachUndecided": true,
	"orders.PersonalData.Inspect": true, "orders.PersonalData.Erase": true,
	"operations.ParkingAdmin.Undecided": true, "operations.DeadLetterAdmin.Undecided": true, "operations.DeadLetterAdmin.Letters": true,
}

type dbCall = func(ctx context.Context, db *bun.DB) error

// on adapts a call that returns a value.
func on[T any](call func(ctx context.Context, db *bun.DB) (T, error)) dbCall {
	return func(ctx context.Context, db *bun.DB) error {
		_, err := call(ctx, db)
		return err
	}
}

// calls returns a call of every method of the ports outside transactions.
func calls() map[string]dbCall {
	all := make(map[string]dbCall)
	for _, some := range []map[string]dbCall{relayCalls(), operatingCalls(), subscriberCalls(), letterCalls(), operatorCalls()} {
		for name, call := range some {
			all[name] = call
		}
	}
	return all
}

func entry(position outbox.Position) outbox.Entry {
	return outbox.Entry{Message: relaytest.NewMessage("a", int64(position)), Position: position, RecordedAt: time.Now()}
}

func relayCalls() map[string]dbCall {
	cursors := func(db *bun.DB) relay.CursorStore { return postgres.NewCursorStore(db, relayName, "STREAM") }
	parking := func(db *bun.DB) *postgres.Parking { return postgres.NewParking(db, relayName) }
	elector := func(db *bun.DB) relay.Elector { return postgres.NewElector(db, relayName, "me", leaseTTL) }
	return map[string]dbCall{
		"relay.Log.After": on(func(ctx context.Context, db *bun.DB) (relay.Page, error) {
			return postgres.NewLog(db, relayName, quiet).After(ctx, outbox.Progress{}, plenty)
		}),
		"relay.Log.Verify": func(ctx context.Context, db *bun.DB) error {
			_, err := postgres.NewLog(db, relayName, quiet).Verify(ctx, outbox.Progress{}, 0)
			return err
		},
		"relay.CursorStore.Load": on(func(ctx context.Context, db *bun.DB) (relay.Cursor, error) { return cursors(db).Load(ctx) }),
		"relay.CursorStore.Save": on(func(ctx context.Context, db *bun.DB) (relay.Cursor, error) {
			return cursors(db).Save(ctx, relay.WriteFence{}, relay.Cursor{})
		}),
		"relay.CursorStore.Report": func(ctx context.Context, db *bun.DB) error { return cursors(db).Report(ctx, relay.WriteFence{}, nil) },
		"relay.Parking.Reconcile": on(func(ctx context.Context, db *bun.DB) (relay.ParkingSummary, error) {
			return parking(db).Reconcile(ctx, relay.WriteFence{}, relay.MessageMeta{}, 1, true)
		}),
		"relay.Parking.SetAside": on(func(ctx context.Context, db *bun.DB) ([]outbox.Position, error) {
			return parking(db).SetAside(ctx, relay.WriteFence{}, []outbox.Entry{entry(1)})
		}),
		"relay.Parking.Due": on(func(ctx context.Context, db *bun.DB) ([]outbox.Entry, error) {
			due, _, err := parking(db).Due(ctx, 1, plenty)
			return due, err
		}),
		"relay.Parking.Refuse": func(ctx context.Context, db *bun.DB) error {
			return parking(db).Refuse(ctx, relay.WriteFence{}, entry(1), "no")
		},
		"operations.ParkingAdmin.Redrive": on(func(ctx context.Context, db *bun.DB) (int, error) { return parking(db).Redrive(ctx, nil) }),
		"operations.ParkingAdmin.Discard": func(ctx context.Context, db *bun.DB) error { return parking(db).Discard(ctx, 1) },
		"operations.ParkingAdmin.EachUndecided": func(ctx context.Context, db *bun.DB) error {
			return parking(db).EachUndecided(ctx, func(operations.UndecidedEvent) bool { return true })
		},
		"operations.ParkingAdmin.Undecided": on(func(ctx context.Context, db *bun.DB) ([]operations.UndecidedEvent, error) {
			return parking(db).Undecided(ctx, outbox.Key{}, 1)
		}),
		"operations.ParkingAdmin.RedriveChosen": on(func(ctx context.Context, db *bun.DB) (int, error) {
			return parking(db).RedriveChosen(ctx, []outbox.Position{1}, operations.Choice{})
		}),
		"operations.ParkingAdmin.DiscardChosen": on(func(ctx context.Context, db *bun.DB) (int, error) {
			return parking(db).DiscardChosen(ctx, []outbox.Position{1}, operations.Choice{})
		}),
		"operations.ParkingAdmin.Waiting": on(func(ctx context.Context, db *bun.DB) ([]relay.ParkedEvent, error) {
			return parking(db).Waiting(ctx, 1)
		}),
		"relay.Retention.Purge": on(func(ctx context.Context, db *bun.DB) (int, error) {
			return postgres.NewRetention(db, relayName).Purge(ctx, 1, time.Hour, 1)
		}),
		"relay.Elector.Acquire": on(func(ctx context.Context, db *bun.DB) (relay.Term, error) { return elector(db).Acquire(ctx, 0) }),
		"relay.Elector.Renew": on(func(ctx context.Context, db *bun.DB) (relay.Term, error) {
			return elector(db).Renew(ctx, relay.Term{})
		}),
		"relay.InstanceHalts.Record": func(ctx context.Context, db *bun.DB) error {
			return postgres.NewInstanceHalts(db, relayName, "me").Record(ctx, relay.NewHalt(relay.HaltStreamMissing, "gone"))
		},
		"relay.Elector.Resign": func(ctx context.Context, db *bun.DB) error { return elector(db).Resign(ctx, relay.Term{}) },
	}
}

func operatingCalls() map[string]dbCall {
	relayAdmin := func(db *bun.DB) *postgres.RelayAdmin { return postgres.NewRelayAdmin(db, relayName, "STREAM") }
	return map[string]dbCall{
		"operations.RelayInspector.Status": on(func(ctx context.Context, db *bun.DB) (operations.RelayStatus, error) {
			return relayAdmin(db).Status(ctx)
		}),
		"operations.RelayInspector.Measure": on(func(ctx context.Context, db *bun.DB) (operations.RelayMetrics, error) {
			return relayAdmin(db).Measure(ctx, 0)
		}),
		"operations.RelayInspector.List": on(func(ctx context.Context, db *bun.DB) ([]operations.ListedEvent, error) {
			return relayAdmin(db).List(ctx, operations.EventFilter{Limit: 1})
		}),
		"operations.ProgressReader.Progress": on(func(ctx context.Context, db *bun.DB) ([]operations.SubscriberProgress, error) {
			return relayAdmin(db).Progress(ctx)
		}),
		"operations.RelayRepair.Cursor": on(func(ctx context.Context, db *bun.DB) (relay.Cursor, error) { return relayAdmin(db).Cursor(ctx) }),
		"operations.RelayRepair.CheckSequence": on(func(ctx context.Context, db *bun.DB) (operations.SequenceCheck, error) {
			return relayAdmin(db).CheckSequence(ctx)
		}),
		"operations.RelayRepair.Realign": on(func(ctx context.Context, db *bun.DB) (int64, error) {
			return relayAdmin(db).Realign(ctx, operations.Realignment{Position: 1})
		}),
		"operations.RelayRepair.HasEvents": on(func(ctx context.Context, db *bun.DB) ([]outbox.Progress, error) {
			return relayAdmin(db).HasEvents(ctx, []outbox.Progress{{Position: 1}})
		}),
		"operations.RelayRepair.At": on(func(ctx context.Context, db *bun.DB) (bool, error) {
			_, found, err := relayAdmin(db).At(ctx, 1)
			return found, err
		}),
		"operations.RelayRepair.CountAfter": on(func(ctx context.Context, db *bun.DB) (int64, error) { return relayAdmin(db).CountAfter(ctx, 0) }),
		"operations.RelayRepair.Adopt": func(ctx context.Context, db *bun.DB) error {
			return relayAdmin(db).Adopt(ctx, 7, relay.Cursor{}, true)
		},
		"orders.OrderReader.Get": func(ctx context.Context, db *bun.DB) error {
			_, err := postgres.NewOrderReader(db).Get(ctx, newClaim("").Order)
			return err
		},
		"orders.OrderReader.List": func(ctx context.Context, db *bun.DB) error {
			_, err := postgres.NewOrderReader(db).List(ctx, orders.Filter{Limit: 1})
			return err
		},
		"orders.UnitOfWork.Do": func(ctx context.Context, db *bun.DB) error {
			return postgres.NewUnitOfWork(db).Do(ctx, func(context.Context, orders.Tx) error { return nil })
		},
		"orders.KeyRing.Find": on(func(ctx context.Context, db *bun.DB) ([]orders.FoundKey, error) {
			return postgres.NewKeyRing(db).Find(ctx, []string{string(newCustomer())})
		}),
		"orders.PersonalData.Inspect": on(func(ctx context.Context, db *bun.DB) (orders.CustomerData, error) {
			return postgres.NewPersonalData(db).Inspect(ctx, newCustomer())
		}),
		"orders.PersonalData.Erase": on(func(ctx context.Context, db *bun.DB) (orders.CustomerData, error) {
			return postgres.NewPersonalData(db).Erase(ctx, newCustomer(), newCustomer())
		}),
		"orders.ExpiredKeys.Delete": on(func(ctx context.Context, db *bun.DB) (int, error) {
			return postgres.NewExpiredKeys(db).Delete(ctx, 1)
		}),
	}
}

// lane is a checkpoint for calls of inbox.UnitOfWork and inbox.Checkpoints. The database has no such lane.
var lane = inbox.Checkpoint{Lanes: 1, Stream: "S", Revision: 1}

func giveUp(_ outbox.Entry, _ int, err error) (inbox.Failure, error) {
	return inbox.Failure{Cause: err, Limit: 1}, nil
}

var errNo = errors.New("no")

func newInbox(db *bun.DB) *postgres.Inbox { return postgres.NewInbox(db, postgres.InboxOptions{}) }

func subscriberCalls() map[string]dbCall {
	return map[string]dbCall{
		"inbox.Checkpoints.CreateLanes": func(ctx context.Context, db *bun.DB) error {
			return newInbox(db).CreateLanes(ctx, subscriber, 1, "S", inbox.StreamPosition{})
		},
		"inbox.Checkpoints.Subscribe": func(ctx context.Context, db *bun.DB) error {
			return newInbox(db).Subscribe(ctx, subscriber, "handler", []string{"a"})
		},
		"inbox.Checkpoints.Heartbeat": on(func(ctx context.Context, db *bun.DB) (inbox.View, error) {
			return newInbox(db).Heartbeat(ctx, subscriber, "me")
		}),
		"inbox.Checkpoints.RemoveCopy": func(ctx context.Context, db *bun.DB) error { return newInbox(db).RemoveCopy(ctx, subscriber, "me") },
		"inbox.Checkpoints.Marks": on(func(ctx context.Context, db *bun.DB) ([]inbox.StreamPosition, error) {
			return newInbox(db).Marks(ctx, subscriber, 0)
		}),
		"inbox.Checkpoints.Rewind": on(func(ctx context.Context, db *bun.DB) (inbox.Checkpoint, error) {
			return newInbox(db).Rewind(ctx, subscriber, lane, "S", inbox.StreamPosition{})
		}),
		"inbox.UnitOfWork.Apply": on(func(ctx context.Context, db *bun.DB) (inbox.Outcome, error) {
			return newInbox(db).Apply(ctx, subscriber, inbox.Batch{From: lane}, ignore, giveUp)
		}),
		"inbox.DeadLetters.Redeliver": on(func(ctx context.Context, db *bun.DB) (bool, error) {
			_, found, err := newInbox(db).Redeliver(ctx, subscriber, inbox.Redelivery{Limit: 1}, ignore, giveUp)
			return found, err
		}),
	}
}

// letterCalls are calls about letters that do not exist, and about the inbox of a subscriber that does not exist.
func letterCalls() map[string]dbCall {
	missing := relaytest.NewMessage("a", 1).ID
	return map[string]dbCall{
		"operations.DeadLetterAdmin.Letters": on(func(ctx context.Context, db *bun.DB) ([]inbox.Letter, error) {
			return newInbox(db).Letters(ctx, subscriber, 1)
		}),
		"operations.DeadLetterAdmin.Letter": on(func(ctx context.Context, db *bun.DB) (inbox.Letter, error) {
			return newInbox(db).Letter(ctx, subscriber, missing)
		}),
		"operations.DeadLetterAdmin.Retry":   func(ctx context.Context, db *bun.DB) error { return newInbox(db).Retry(ctx, subscriber, missing) },
		"operations.DeadLetterAdmin.Discard": func(ctx context.Context, db *bun.DB) error { return newInbox(db).Discard(ctx, subscriber, missing) },
		"operations.DeadLetterAdmin.EachUndecided": func(ctx context.Context, db *bun.DB) error {
			return newInbox(db).EachUndecided(ctx, subscriber, func(operations.UndecidedEvent) bool { return true })
		},
		"operations.DeadLetterAdmin.Undecided": on(func(ctx context.Context, db *bun.DB) ([]operations.UndecidedEvent, error) {
			found, _, err := newInbox(db).Undecided(ctx, subscriber, operations.DeadLetterCursor{}, 1)
			return found, err
		}),
		"operations.DeadLetterAdmin.RetryChosen": on(func(ctx context.Context, db *bun.DB) (int, error) {
			return newInbox(db).RetryChosen(ctx, subscriber, []string{missing}, operations.Choice{})
		}),
		"operations.DeadLetterAdmin.DiscardChosen": on(func(ctx context.Context, db *bun.DB) (int, error) {
			return newInbox(db).DiscardChosen(ctx, subscriber, []string{missing}, operations.Choice{})
		}),
		"operations.DeadLetterAdmin.CountDead": on(func(ctx context.Context, db *bun.DB) (int, error) {
			return newInbox(db).CountDead(ctx, subscriber)
		}),
		"operations.DeadLetterAdmin.Subscribers": on(func(ctx context.Context, db *bun.DB) ([]string, error) { return newInbox(db).Subscribers(ctx) }),
		"operations.EffectReader.Effects": on(func(ctx context.Context, db *bun.DB) ([]operations.Effect, error) {
			return postgres.NewEffectReader(db).Effects(ctx, []string{missing})
		}),
		"operations.ConnectedProcesses.Processes": on(func(ctx context.Context, db *bun.DB) ([]string, error) {
			return postgres.NewProcesses(db).Processes(ctx)
		}),
		"inbox.Log.ReadHole": on(func(ctx context.Context, db *bun.DB) (inbox.HoleContents, error) {
			return newInbox(db).ReadHole(ctx, subscriber, inbox.Hole{Lanes: 1, Stream: "S", First: 1, Last: 2, EndsBefore: 3}, inbox.ReadLimit{Count: 1, Bytes: 1})
		}),
		"inbox.Log.CursorBetween": on(func(ctx context.Context, db *bun.DB) (inbox.LogCursor, error) {
			return newInbox(db).CursorBetween(ctx, "S", 1, 2)
		}),
		"inbox.Sweeper.Candidates": on(func(ctx context.Context, db *bun.DB) ([]string, error) {
			ids, _, err := newInbox(db).Candidates(ctx, subscriber, "S", time.Hour, 1)
			return ids, err
		}),
		"inbox.Sweeper.Sweep": on(func(ctx context.Context, db *bun.DB) (int, error) {
			return newInbox(db).Sweep(ctx, subscriber, "S", []string{missing}, 1, 1)
		}),
	}
}

// operatorCalls are calls about a subscriber that does not exist. Their first statement finds that out.
func operatorCalls() map[string]dbCall {
	operator := func(db *bun.DB) *postgres.Operator { return postgres.NewOperator(db) }
	agree := func(context.Context, []inbox.Checkpoint) error { return nil }
	return map[string]dbCall{
		"inbox.Operator.Overviews": on(func(ctx context.Context, db *bun.DB) ([]inbox.Overview, error) { return operator(db).Overviews(ctx) }),
		"inbox.Operator.Pause":     func(ctx context.Context, db *bun.DB) error { return operator(db).Pause(ctx, "nobody") },
		"inbox.Operator.Resume":    func(ctx context.Context, db *bun.DB) error { return operator(db).Resume(ctx, "nobody") },
		"inbox.Operator.Move": on(func(ctx context.Context, db *bun.DB) ([]inbox.Checkpoint, error) {
			return operator(db).Move(ctx, "nobody", inbox.Move{Stream: "S"}, agree)
		}),
		"inbox.Operator.SetLanes": on(func(ctx context.Context, db *bun.DB) ([]inbox.Checkpoint, error) {
			return operator(db).SetLanes(ctx, "nobody", 2, agree)
		}),
		"inbox.Operator.Ignore": on(func(ctx context.Context, db *bun.DB) (int, error) { return operator(db).Ignore(ctx, "nobody", "a") }),
		"inbox.Operator.Forget": func(ctx context.Context, db *bun.DB) error { return operator(db).Forget(ctx, "nobody") },
		"inbox.Operator.Erase":  on(func(ctx context.Context, db *bun.DB) (int, error) { return operator(db).Erase(ctx, "nobody", 1) }),
		"inbox.Operator.RemoveTombstone": func(ctx context.Context, db *bun.DB) error {
			return operator(db).RemoveTombstone(ctx, "nobody")
		},
	}
}

// orderingCalls are the methods of the ports inside a transaction of orders.
func orderingCalls() map[string]func(ctx context.Context, tx orders.Tx) error {
	return map[string]func(ctx context.Context, tx orders.Tx) error{
		"relay.Appender.Append": func(ctx context.Context, tx orders.Tx) error {
			return tx.Outbox.Append(ctx, relaytest.NewMessage("a", 1))
		},
		"orders.CustomerKeys.Hold": func(ctx context.Context, tx orders.Tx) error {
			_, err := tx.CustomerKeys.Hold(ctx, newCustomer())
			return err
		},
		"orders.Keys.Claim": func(ctx context.Context, tx orders.Tx) error {
			_, err := tx.Keys.Claim(ctx, newClaim("k"))
			return err
		},
		"orders.Keys.Find": func(ctx context.Context, tx orders.Tx) error {
			_, _, err := tx.Keys.Find(ctx, "customer", "k")
			return err
		},
		"orders.Orders.Get": func(ctx context.Context, tx orders.Tx) error {
			_, err := tx.Orders.Get(ctx, newClaim("").Order)
			return err
		},
		"orders.Orders.Save": func(ctx context.Context, tx orders.Tx) error {
			id := relaytest.NewMessage("", 1).ID
			return tx.Orders.Save(ctx, order.Rehydrate(order.Snapshot{
				ID: order.ID(id), CustomerID: value.CustomerID(id), Amount: value.NewMoney(1, "USD"), Status: order.StatusPaid, Version: 2,
			}))
		},
	}
}

// inboxCalls are the methods of the ports inside a transaction of a subscriber. They only collect effects; the transaction
// writes these.
func inboxCalls() map[string]func(ctx context.Context, tx inbox.Tx) error {
	return map[string]func(ctx context.Context, tx inbox.Tx) error{
		"orders.Totals.Add": func(ctx context.Context, tx inbox.Tx) error {
			return postgres.NewTotals().Add(ctx, tx, newCustomer(), value.NewMoney(1, "USD"))
		},
		"inbox.Emitter.Emit": func(ctx context.Context, tx inbox.Tx) error {
			message := relaytest.NewMessage("emitted", 1)
			message.ID = ""
			return postgres.NewEmitter().Emit(ctx, tx, entry(1), message)
		},
	}
}

// inboxTransactions are the transactions of a subscriber that call a handler. Each one first creates the subscriber with the
// given name.
func inboxTransactions() map[string]func(ctx context.Context, db *bun.DB, name string, handler inbox.Handler) error {
	apply := func(ctx context.Context, db *bun.DB, name string, handler inbox.Handler, suspect bool) error {
		if err := newInbox(db).CreateLanes(ctx, name, 1, "S", inbox.StreamPosition{}); err != nil {
			return err
		}
		view, err := newInbox(db).Heartbeat(ctx, name, "copy")
		if err != nil {
			return err
		}
		events := []inbox.Event{{Entry: entry(1), Sequence: 1, Suspect: suspect}}
		_, err = newInbox(db).Apply(ctx, name, inbox.Batch{From: view.Lanes[0], To: inbox.StreamPosition{Sequence: 1}, Events: events}, handler, giveUp)
		return err
	}
	return map[string]func(ctx context.Context, db *bun.DB, name string, handler inbox.Handler) error{
		"Apply": func(ctx context.Context, db *bun.DB, name string, handler inbox.Handler) error {
			return apply(ctx, db, name, handler, false)
		},
		"Redeliver": func(ctx context.Context, db *bun.DB, name string, handler inbox.Handler) error {
			fails := handlerFunc(func(context.Context, inbox.Tx, outbox.Entry) error { return errNo })
			if err := apply(ctx, db, name, fails, true); err != nil {
				return err
			}
			if _, err := inboxtest.RetryAll(ctx, newInbox(db), name); err != nil {
				return err
			}
			_, _, err := newInbox(db).Redeliver(ctx, name, inbox.Redelivery{Limit: 1}, handler, giveUp)
			return err
		},
	}
}
