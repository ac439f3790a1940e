package main

import (
	"fmt"
	"regexp"

	"github.com/google/uuid"

	"github.com/assylzhan-a/outboxie"
)

// Status is the state of an invoice. It is also the last word of the type and of the subject of the event that led there.
type Status string

// The states. An issued invoice is paid or voided, and then it is final.
const (
	Issued Status = "issued"
	Paid   Status = "paid"
	Voided Status = "voided"
)

const (
	stream   = "INVOICES"
	subjects = "invoices.>"
	source   = "/acme/billing"
	maxCents = 1_000_000_000
)

// refused is an error that the client can do something about. It has the HTTP status of the answer.
type refused struct {
	status int
	reason string
}

func (r refused) Error() string { return r.reason }

var (
	errNotFound = refused{404, "there is no such invoice"}
	errChanged  = refused{409, "somebody else changed the invoice at the same time: read it and try again"}
)

// Invoice is the aggregate: each change makes a new version, and one event with that version.
type Invoice struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
	Status   Status `json:"status"`
	Version  int64  `json:"version"`
}

var customerName = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// Issue returns a new invoice.
func Issue(customer string, cents int64) (Invoice, error) {
	switch {
	case !customerName.MatchString(customer):
		return Invoice{}, refused{422, "the customer must have 1 to 64 letters, digits and dashes"}
	case cents < 1 || cents > maxCents:
		return Invoice{}, refused{422, fmt.Sprintf("cents must be 1 to %d", maxCents)}
	}
	id, err := uuid.NewV7()
	return Invoice{ID: id.String(), Customer: customer, Cents: cents, Status: Issued, Version: 1}, err
}

// Pay records that the customer has paid.
func (i *Invoice) Pay() error { return i.end(Paid) }

// Void takes the invoice back.
func (i *Invoice) Void() error { return i.end(Voided) }

func (i *Invoice) end(status Status) error {
	if i.Status != Issued {
		return refused{409, fmt.Sprintf("the invoice is %s", i.Status)}
	}
	i.Status = status
	i.Version++
	return nil
}

// Changed is the payload of every event of an invoice. Its fields are what subscribers need, so that they read nothing else.
type Changed struct {
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
}

// eventType returns the type of the event that leads to a status. A payload that changes incompatibly gets another version.
func eventType(status Status) string { return "acme.invoice." + string(status) + ".v1" }

// event returns the event of the invoice's last change.
func (i *Invoice) event() (outboxie.Event, error) {
	aggregate := outboxie.Aggregate{Type: "invoice", ID: i.ID}
	return outboxie.NewEvent(eventType(i.Status), "invoices."+string(i.Status), aggregate, i.Version, Changed{i.Customer, i.Cents})
}
