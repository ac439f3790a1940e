// Package codec maps the events of orders to messages and back. The service encodes events for the outbox, and handlers of subscribers
// decode them. Messages are the public contract: CloudEvents types with a version, and JSON bodies that are mapped field by field. The
// meaning of a published version never changes. A change that old readers cannot read gets a new type, .v2, beside the old type. Decode reads
// every version: see versions.
package codec

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// The subjects of the messages.
const (
	SubjectCreated   = "orders.created"
	SubjectPaid      = "orders.paid"
	SubjectShipped   = "orders.shipped"
	SubjectCancelled = "orders.cancelled"
)

var (
	_ orders.Encoder = (*Codec)(nil)
	_ orders.Decoder = (*Codec)(nil)
)

// Codec encodes and decodes events. It is safe for concurrent use if newID is.
type Codec struct {
	newID    func() string
	versions map[string][]upcaster
}

// New returns a Codec that gives each message an id of newID, which must be a new UUID each time. If newID is nil, the ids are UUIDs of
// version 7, which sort roughly by time.
func New(newID func() string) *Codec {
	if newID == nil {
		newID = func() string { return uuid.Must(uuid.NewV7()).String() }
	}
	return &Codec{newID: newID, versions: versions}
}

// body is the JSON of every event of the newest version, in the order in which it is written. The time of a change is only in the event of that
// change. A note is in the event of its change and in all later events.
type body struct {
	OrderID     string    `json:"order_id"`
	CustomerID  string    `json:"customer_id"`
	Amount      string    `json:"amount"` // decimal text, with the currency's decimals
	Currency    string    `json:"currency"`
	Status      string    `json:"status"`
	Version     int64     `json:"version"`
	CreatedAt   time.Time `json:"created_at"`
	PaidAt      time.Time `json:"paid_at,omitzero"`
	ShippedAt   time.Time `json:"shipped_at,omitzero"`
	CancelledAt time.Time `json:"cancelled_at,omitzero"`

	PaymentReference value.Note `json:"payment_reference,omitempty"`
	Carrier          value.Note `json:"carrier,omitempty"`
	Tracking         value.Note `json:"tracking,omitempty"`
	CancelReason     value.Note `json:"cancel_reason,omitempty"`
}

// Encode returns the message for event, with a new id. Its headers name the principal, unless nobody checked who the principal is.
func (c *Codec) Encode(event order.Event, who order.Principal) (outbox.Message, error) {
	if event == nil {
		return outbox.Message{}, errors.New("codec: no event to encode")
	}
	data := order.DataOf(event)
	written := bodyOf(data.Order)
	message := outbox.Message{
		ID:      c.newID(),
		Key:     outbox.Key{Type: orders.AggregateType, ID: string(data.Order.ID)},
		Version: data.Order.Version,
		Headers: actorHeaders(who),
	}
	switch event.(type) {
	case order.Created:
		message.Type, message.Subject = orders.TypeCreated, SubjectCreated
	case order.Paid:
		message.Type, message.Subject = orders.TypePaid, SubjectPaid
		written.PaidAt = data.At.UTC()
	case order.Shipped:
		message.Type, message.Subject = orders.TypeShipped, SubjectShipped
		written.ShippedAt = data.At.UTC()
	case order.Cancelled:
		message.Type, message.Subject = orders.TypeCancelled, SubjectCancelled
		written.CancelledAt = data.At.UTC()
	}
	if message.Type == "" {
		return outbox.Message{}, fmt.Errorf("codec: no message is defined for %T", event)
	}
	payload, err := json.Marshal(written)
	if err != nil {
		return outbox.Message{}, fmt.Errorf("codec: encode %s of %s: %w", message.Type, message.Key, err)
	}
	message.Payload = payload
	return message, nil
}

func bodyOf(state order.Snapshot) body {
	return body{
		OrderID:    string(state.ID),
		CustomerID: string(state.CustomerID),
		Amount:     state.Amount.Decimal(),
		Currency:   state.Amount.Currency().String(),
		Status:     string(state.Status),
		Version:    state.Version,
		CreatedAt:  state.CreatedAt.UTC(),

		PaymentReference: state.PaymentReference,
		Carrier:          state.Carrier,
		Tracking:         state.Tracking,
		CancelReason:     state.CancelReason,
	}
}

// Decode reads the event from the message's type and payload alone, whichever version of the type it has. Every field of the newest version
// must be present and valid after upcasting; if not, Decode fails with inbox.ErrUnreadable and the reason. Decode ignores unknown fields, so
// that a writer may add fields.
func (c *Codec) Decode(message outbox.Message) (order.Event, error) {
	refuse := func(reason error) (order.Event, error) {
		return nil, inbox.ErrUnreadable.With("event %s of type %q cannot be read", message.ID, message.Type).Wrap(reason)
	}
	name, members, err := c.newest(message)
	if err != nil {
		return refuse(err)
	}
	read, err := readBody(members)
	if err != nil {
		return refuse(err)
	}
	state, err := read.snapshot()
	if err != nil {
		return refuse(err)
	}
	data := order.EventData{Order: state}
	var (
		event  order.Event
		status order.Status
	)
	switch name {
	case nameCreated:
		data.At, status = read.CreatedAt, order.StatusCreated
		event = order.Created{EventData: data}
	case namePaid:
		data.At, status = read.PaidAt, order.StatusPaid
		event = order.Paid{EventData: data}
	case nameShipped:
		data.At, status = read.ShippedAt, order.StatusShipped
		event = order.Shipped{EventData: data}
	case nameCancelled:
		data.At, status = read.CancelledAt, order.StatusCancelled
		event = order.Cancelled{EventData: data}
	default:
		return refuse(errors.New("the type is unknown"))
	}
	if state.Status != status {
		return refuse(fmt.Errorf("status is %q, not %q", state.Status, status))
	}
	if data.At.IsZero() {
		return refuse(fmt.Errorf("%s_at is missing", status))
	}
	return event, nil
}

// readBody reads the members of a JSON object by their exact names. Package json alone would read AMOUNT as amount, and refuse a time with an
// escape in it.
func readBody(members map[string]json.RawMessage) (body, error) {
	var read body
	for _, known := range []struct {
		name string
		into any
	}{
		{"order_id", &read.OrderID},
		{"customer_id", &read.CustomerID},
		{"amount", &read.Amount},
		{"currency", &read.Currency},
		{"status", &read.Status},
		{"version", &read.Version},
		{"created_at", &read.CreatedAt},
		{"paid_at", &read.PaidAt},
		{"shipped_at", &read.ShippedAt},
		{"cancelled_at", &read.CancelledAt},
		{"payment_reference", &read.PaymentReference},
		{"carrier", &read.Carrier},
		{"tracking", &read.Tracking},
		{"cancel_reason", &read.CancelReason},
	} {
		value := members[known.name]
		if len(value) == 0 { // it is not there, or an upcaster moved what was not there
			continue
		}
		var err error
		switch into := known.into.(type) {
		case *time.Time:
			*into, err = readTime(value)
		case *string:
			err = readText(value, into)
		default:
			err = json.Unmarshal(value, known.into)
		}
		if err != nil {
			return body{}, fmt.Errorf("%s: %w", known.name, err)
		}
	}
	return read, nil
}

// readText reads a string as package json does. Nearly every string is ASCII without escapes. For such a string, readText is ten times as
// fast as package json.
func readText(value json.RawMessage, into *string) error {
	last := len(value) - 1
	for i, c := range value {
		if quote := i == 0 || i == last; c < ' ' || c >= utf8.RuneSelf || c == '\\' || quote != (c == '"') {
			return json.Unmarshal(value, into)
		}
	}
	*into = string(value[1:last])
	return nil
}

// readTime reads a time. The year must have four digits in UTC, so that the time can be written again. It returns the zero time for null.
func readTime(value json.RawMessage) (time.Time, error) {
	if string(value) == "null" {
		return time.Time{}, nil
	}
	var text string
	if err := readText(value, &text); err != nil {
		return time.Time{}, err
	}
	var at time.Time
	if err := at.UnmarshalText([]byte(text)); err != nil {
		return time.Time{}, err
	}
	at = at.UTC()
	if year := at.Year(); year < 0 || year > 9999 {
		return time.Time{}, fmt.Errorf("%s is not within the years 0 to 9999 in UTC", text)
	}
	return at, nil
}

// snapshot checks every field that all events have, except the status.
func (b body) snapshot() (order.Snapshot, error) {
	id, err := order.ParseID(b.OrderID)
	if err != nil {
		return order.Snapshot{}, fmt.Errorf("order_id: %w", err)
	}
	customer, err := value.ParseCustomerID(b.CustomerID)
	if err != nil {
		return order.Snapshot{}, err
	}
	currency, err := value.ParseCurrency(b.Currency)
	if err != nil {
		return order.Snapshot{}, err
	}
	amount, err := value.ParseMoney(b.Amount, currency)
	if err != nil {
		return order.Snapshot{}, err
	}
	if b.Version < 1 {
		return order.Snapshot{}, fmt.Errorf("version is %d; versions start at 1", b.Version)
	}
	if b.CreatedAt.IsZero() {
		return order.Snapshot{}, errors.New("created_at is missing")
	}
	return order.Snapshot{
		ID: id, CustomerID: customer, Amount: amount, Status: order.Status(b.Status), Version: b.Version,
		CreatedAt: b.CreatedAt, PaymentReference: b.PaymentReference, Carrier: b.Carrier, Tracking: b.Tracking,
		CancelReason: b.CancelReason,
	}, nil
}
