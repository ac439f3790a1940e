package memory

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// PersonalData finds and erases what a UnitOfWork and an Inbox have of customers. The memory has no parking lot, so no event is parked. The two
// do not commit together.
type PersonalData struct {
	work  *UnitOfWork
	inbox *Inbox
}

var _ orders.PersonalData = (*PersonalData)(nil)

// NewPersonalData returns the personal data in work and in inbox.
func NewPersonalData(work *UnitOfWork, subscribers *Inbox) *PersonalData {
	return &PersonalData{work, subscribers}
}

// The marks that Erase leaves in dead letters.
const (
	erasedPayload = `{"erased":true}`
	erasedError   = "the customer was erased"
)

// Inspect reads the orders and then the inbox.
func (p *PersonalData) Inspect(ctx context.Context, customer value.CustomerID) (found orders.CustomerData, err error) {
	if _, err := p.work.begin(ctx); err != nil {
		return orders.CustomerData{}, err
	}
	p.work.mu.Lock()
	mine := p.work.ordersOf(customer)
	_, found.Key = p.work.customerKeys[customer]
	found.Orders, found.Requests = len(mine), len(p.work.requestsOf(customer, mine))
	p.work.mu.Unlock()
	events := p.eventsOf(customer, mine)
	for _, entry := range events {
		switch {
		case entry.SealedWith() != "":
			found.SealedEvents++
		case mine[order.ID(entry.Key.ID)]:
			found.PlainEvents++
		}
	}
	err = p.inbox.once(ctx, "inspect a customer", func(*session) error {
		found.Totals = len(p.inbox.totalsOf(customer))
		plain, sealed := p.inbox.lettersOf(customer, mine)
		found.Letters, found.SealedLetters = len(plain), len(sealed)
		found.Behind = p.inbox.behind(events)
		return nil
	})
	return found, err
}

// Erase waits for transactions that hold the customer's key, save one of the orders, or work on one of the letters or totals.
func (p *PersonalData) Erase(ctx context.Context, customer, pseudonym value.CustomerID) (orders.CustomerData, error) {
	open, err := p.work.begin(ctx)
	if err != nil {
		return orders.CustomerData{}, err
	}
	if err := p.work.customers.take(ctx, customer); err != nil {
		return orders.CustomerData{}, err
	}
	defer p.work.customers.release(customer)
	found, err := p.Inspect(ctx, customer)
	if err != nil {
		return orders.CustomerData{}, err
	}
	p.work.mu.Lock()
	mine := p.work.ordersOf(customer)
	p.work.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(mine)) {
		if err := p.work.saving.claim(ctx, id); err != nil {
			return orders.CustomerData{}, err
		}
		defer p.work.saving.release(id)
	}
	if err := p.eraseInbox(ctx, customer, pseudonym, mine); err != nil {
		return orders.CustomerData{}, err
	}
	return found, open.commit(ctx, func() error {
		p.work.erase(customer, pseudonym, mine)
		return nil
	})
}

func (u *UnitOfWork) erase(customer, pseudonym value.CustomerID, mine map[order.ID]bool) {
	for _, key := range u.requestsOf(customer, mine) {
		delete(u.keys, key)
	}
	for id := range mine {
		state := u.orders[id]
		state.CustomerID = pseudonym
		state.PaymentReference, state.Carrier, state.Tracking, state.CancelReason = "", "", "", ""
		u.orders[id] = state
	}
	if key, has := u.customerKeys[customer]; has {
		delete(u.customerKeys, customer)
		u.foundKeys[key.ID] = orders.FoundKey{SealKey: outbox.SealKey{ID: key.ID}, Erased: true}
	}
}

func (u *UnitOfWork) ordersOf(customer value.CustomerID) map[order.ID]bool {
	mine := make(map[order.ID]bool)
	for id, state := range u.orders {
		if state.CustomerID == customer {
			mine[id] = true
		}
	}
	return mine
}

func (u *UnitOfWork) requestsOf(customer value.CustomerID, mine map[order.ID]bool) (found []keyName) {
	for name, kept := range u.keys {
		if name.scope == orders.Scope(customer) || mine[kept.claim.Order] {
			found = append(found, name)
		}
	}
	return found
}

// eventsOf returns the events of the customer's orders, and the plain events that name the customer.
func (p *PersonalData) eventsOf(customer value.CustomerID, mine map[order.ID]bool) (found []outbox.Entry) {
	for _, entry := range p.work.log.Committed() {
		if mine[order.ID(entry.Key.ID)] || names(entry, customer) {
			found = append(found, entry)
		}
	}
	return found
}

// names reports whether a plain event names the customer.
func names(entry outbox.Entry, customer value.CustomerID) bool {
	if entry.SealedWith() != "" {
		return false
	}
	return entry.Headers[outbox.HeaderActorID] == string(customer) || bytes.Contains(entry.Payload, []byte(`"customer_id":"`+string(customer)+`"`))
}

// eraseInbox erases a customer in the inbox, in one transaction.
func (p *PersonalData) eraseInbox(ctx context.Context, customer, pseudonym value.CustomerID, mine map[order.ID]bool) error {
	s, err := p.inbox.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	var plain, sealed []letterKey
	var totals []totalKey
	err = s.do(ctx, "find a customer", func() error {
		plain, sealed = p.inbox.lettersOf(customer, mine)
		totals = p.inbox.totalsOf(customer)
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range slices.Concat(plain, sealed) {
		if err := s.lock(ctx, key); err != nil {
			return err
		}
	}
	for _, key := range totals {
		if err := s.lock(ctx, key); err != nil {
			return err
		}
	}
	err = s.do(ctx, "erase a customer", func() error {
		s.change(func() {
			p.inbox.eraseLetters(plain, sealed)
			for _, key := range totals {
				p.inbox.totals[totalKey{key.subscriber, pseudonym, key.currency}] = p.inbox.totals[key]
				delete(p.inbox.totals, key)
			}
		})
		return nil
	})
	if err != nil {
		return err
	}
	return s.commit(ctx)
}

func (i *Inbox) eraseLetters(plain, sealed []letterKey) {
	for _, key := range plain {
		l, found := i.letters[key]
		if !found {
			continue // a redelivery applied the event before this transaction got the lock
		}
		l.Payload, l.Error, l.Headers = []byte(erasedPayload), erasedError, maps.Clone(l.Headers)
		delete(l.Headers, outbox.HeaderActorID)
		i.letters[key] = l
		if l.State != inbox.Discarded {
			i.discard(key, false)
		}
	}
	for _, key := range sealed {
		if l, found := i.letters[key]; found && l.Error != "" {
			l.Error = erasedError
			i.letters[key] = l
		}
	}
}

// lettersOf returns the letters with plain events of a customer, and those with sealed events of the customer's orders.
func (i *Inbox) lettersOf(customer value.CustomerID, mine map[order.ID]bool) (plain, sealed []letterKey) {
	for key, l := range i.letters {
		of := mine[order.ID(l.Key.ID)]
		switch {
		case l.SealedWith() != "" && of:
			sealed = append(sealed, key)
		case l.SealedWith() == "" && string(l.Payload) != erasedPayload && (of || names(l.Entry, customer)):
			plain = append(plain, key)
		}
	}
	inOrder := func(a, b letterKey) int {
		return cmp.Or(cmp.Compare(a.subscriber, b.subscriber), cmp.Compare(i.letters[a].Position, i.letters[b].Position), cmp.Compare(a.id, b.id))
	}
	slices.SortFunc(plain, inOrder)
	slices.SortFunc(sealed, inOrder)
	return plain, sealed
}

func (i *Inbox) totalsOf(customer value.CustomerID) (found []totalKey) {
	for key := range i.totals {
		if key.customer == customer {
			found = append(found, key)
		}
	}
	slices.SortFunc(found, func(a, b totalKey) int { return cmp.Or(cmp.Compare(a.subscriber, b.subscriber), a.compare(b)) })
	return found
}

// behind counts, for each subscriber, the events that it wants and has not taken.
func (i *Inbox) behind(events []outbox.Entry) (found []orders.Behind) {
	for _, name := range slices.Sorted(maps.Keys(i.subscribers)) {
		slowest := outbox.Position(-1)
		for key, l := range i.lanes {
			if key.subscriber == name && (slowest < 0 || l.Progress < slowest) {
				slowest = l.Progress
			}
		}
		behind := orders.Behind{Subscriber: name}
		for _, entry := range events {
			_, taken := i.records[recordKey{name, entry.ID}]
			if slowest >= 0 && entry.Position > slowest && i.subscribers[name].types[entry.Type] && !taken {
				behind.Events++
			}
		}
		if behind.Events > 0 {
			found = append(found, behind)
		}
	}
	return found
}
