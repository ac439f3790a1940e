package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

type orderRow struct {
	bun.BaseModel `bun:"table:orders"`

	ID          string    `bun:"id,pk"`
	CustomerID  string    `bun:"customer_id"`
	AmountMinor int64     `bun:"amount_minor"`
	Currency    string    `bun:"currency"`
	Status      string    `bun:"status"`
	Version     int64     `bun:"version"`
	CreatedAt   time.Time `bun:"created_at"`

	PaymentReference string `bun:"payment_reference"`
	Carrier          string `bun:"carrier"`
	Tracking         string `bun:"tracking"`
	CancelReason     string `bun:"cancel_reason"`
}

func rowOf(state order.Snapshot) *orderRow {
	return &orderRow{
		ID:          string(state.ID),
		CustomerID:  string(state.CustomerID),
		AmountMinor: state.Amount.Minor(),
		Currency:    string(state.Amount.Currency()),
		Status:      string(state.Status),
		Version:     state.Version,
		CreatedAt:   state.CreatedAt,

		PaymentReference: string(state.PaymentReference),
		Carrier:          string(state.Carrier),
		Tracking:         string(state.Tracking),
		CancelReason:     string(state.CancelReason),
	}
}

func (r *orderRow) snapshot() order.Snapshot {
	return order.Snapshot{
		ID:         order.ID(r.ID),
		CustomerID: value.CustomerID(r.CustomerID),
		Amount:     value.NewMoney(r.AmountMinor, value.Currency(r.Currency)),
		Status:     order.Status(r.Status),
		Version:    r.Version,
		CreatedAt:  r.CreatedAt.UTC(),

		PaymentReference: value.Note(r.PaymentReference),
		Carrier:          value.Note(r.Carrier),
		Tracking:         value.Note(r.Tracking),
		CancelReason:     value.Note(r.CancelReason),
	}
}

// orderRepository reads and writes orders in one transaction.
type orderRepository struct{ tx bun.Tx }

var _ orders.Orders = (*orderRepository)(nil)

// Get runs one statement.
func (s *orderRepository) Get(ctx context.Context, id order.ID) (*order.Order, error) {
	state, err := getOrder(ctx, s.tx, id)
	if err != nil {
		return nil, err
	}
	return order.Rehydrate(state), nil
}

// Save inserts an order that was never stored, and updates any other order.
func (s *orderRepository) Save(ctx context.Context, o *order.Order) error {
	if o.HasEvents() {
		return orders.ErrEventsNotPulled
	}
	if o.StoredVersion() == 0 {
		return s.insert(ctx, rowOf(o.Snapshot()))
	}
	return s.update(ctx, rowOf(o.Snapshot()), o.StoredVersion())
}

// insert does not wait for the answer: the order is sent with what follows it.
func (s *orderRepository) insert(ctx context.Context, row *orderRow) error {
	later := context.WithoutCancel(ctx)
	judged := func(err error) error {
		if violates(err, orderConstraint) {
			return orders.ErrOrderExists.With("there is an order %s already", row.ID).Wrap(err)
		}
		return classify(later, notUnique(err))
	}
	_, err := s.tx.NewInsert().Model(row).Value("updated_at", "clock_timestamp()").Exec(withLateAnswer(ctx, judged))
	return judged(err)
}

// update waits for a transaction that changes the row at the same time. If that transaction commits, update finds another version, or another
// customer.
func (s *orderRepository) update(ctx context.Context, row *orderRow, stored int64) error {
	result, err := s.tx.NewUpdate().Model(row).Column("status", "version", "payment_reference", "carrier", "tracking", "cancel_reason").
		Set("updated_at = clock_timestamp()").WherePK().Where("version = ? AND customer_id = ?", stored, row.CustomerID).Exec(ctx)
	if err != nil {
		return classify(ctx, notUnique(err))
	}
	changed, err := result.RowsAffected()
	if err != nil {
		return classify(ctx, err)
	}
	if changed == 0 {
		return orders.ErrOrderChanged.With("order %s is not at version %d any more, or belongs to another customer now", row.ID, stored)
	}
	return nil
}

// notUnique returns an ErrNotUnique if err is the violation of a unique constraint. Any other error stays as it is, also one that says more.
func notUnique(err error) error {
	var reported *pgconn.PgError
	var known *fault.Error
	if sqlState(err) != uniqueViolation || errors.As(err, &known) || !errors.As(err, &reported) {
		return err
	}
	return orders.ErrNotUnique.With("another order has a value that the constraint %s allows only once", reported.ConstraintName).Wrap(err)
}

// OrderReader reads orders, each call with one statement.
type OrderReader struct{ db *bun.DB }

var _ orders.OrderReader = (*OrderReader)(nil)

// NewOrderReader returns a reader of the orders in db.
func NewOrderReader(db *bun.DB) *OrderReader { return &OrderReader{db} }

// Get returns ErrBusy if it gets no connection in two seconds.
func (r *OrderReader) Get(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return getOrder(limitPoolWait(ctx, beginTimeout), r.db, id)
}

func getOrder(ctx context.Context, db bun.IDB, id order.ID) (order.Snapshot, error) {
	row := new(orderRow)
	err := db.NewSelect().Model(row).Where("id = ?", string(id)).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return order.Snapshot{}, orders.ErrOrderNotFound.With("there is no order %s", id)
	}
	if err != nil {
		return order.Snapshot{}, classify(ctx, err)
	}
	return row.snapshot(), nil
}

// List reads no more rows than it returns. For each combination of customer and status there is an index that begins with these columns and
// continues in the order of the list. New orders do not shift later pages.
//
// Without help Postgres may walk the index of all orders and skip the rows that do not match. If few rows match, that reads the whole
// table. Therefore the list is also sorted by the filter's column, an order that only the right index has. The filter compares this column
// with an array of one value. If it compared the column with a constant, Postgres would drop the column from the order.
func (r *OrderReader) List(ctx context.Context, filter orders.Filter) ([]order.Snapshot, error) {
	ctx = limitPoolWait(ctx, beginTimeout)
	var rows []orderRow
	query := r.db.NewSelect().Model(&rows)
	switch {
	case filter.Customer != "":
		query = query.Where("customer_id = ANY (ARRAY[?]::uuid[])", string(filter.Customer)).OrderExpr("customer_id DESC")
		if filter.Status != "" {
			query = query.Where("status = ?", string(filter.Status))
		}
	case filter.Status != "":
		query = query.Where("status = ANY (ARRAY[?])", string(filter.Status)).OrderExpr("status DESC")
	}
	query = query.OrderExpr("created_at DESC, id DESC LIMIT ?", filter.Limit) // for bun's own Limit, 0 means no limit
	if !filter.CreatedFrom.IsZero() {
		query = query.Where("created_at >= ?", upToMicrosecond(filter.CreatedFrom))
	}
	if !filter.CreatedBefore.IsZero() {
		query = query.Where("created_at < ?", upToMicrosecond(filter.CreatedBefore))
	}
	if filter.After != nil {
		query = query.Where("(created_at, id) < (?, ?)", filter.After.CreatedAt, string(filter.After.ID))
	}
	if err := query.Scan(ctx); err != nil {
		return nil, classify(ctx, err)
	}
	var found []order.Snapshot
	for i := range rows {
		found = append(found, rows[i].snapshot())
	}
	return found, nil
}

// upToMicrosecond rounds t up to a microsecond. Postgres would round t to the nearest one.
func upToMicrosecond(t time.Time) time.Time {
	return t.Add(999 * time.Nanosecond).Truncate(time.Microsecond)
}
