package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var (
	invoice = names{module: "example.com/acme/billing", service: "billing", singular: "invoice"}.completed()
	entry   = names{module: "example.com/acme/parcels", service: "parcels", singular: "shipment"}.completed()
)

func readEngine(t *testing.T) rules {
	t.Helper()
	r, err := readRules(engineText)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAggregateAndSequence checks which "order" of prose, SQL and code is the aggregate, and that articles and plurals fit.
func TestAggregateAndSequence(t *testing.T) {
	prose := func(int) bool { return false }
	for text, want := range map[string]string{
		"an order, an order's trace":                           "a shipment, a shipment's trace",
		"An `order` and <b>orders</b>":                         "A `shipment` and <b>shipments</b>",
		"// it places an\n// order of a customer":              "// it places a\n// shipment of a customer",
		"events arrive in order":                               "events arrive in order",
		"In order: the order of the log":                       "In order: the order of the log",
		"out of order, reordered, unordered":                   "out of order, reordered, unordered",
		"in the\n// order in which they came":                  "in the\n// order in which they came",
		"in the order's trace":                                 "in the shipment's trace",
		"SELECT * FROM orders ORDER BY id":                     "SELECT * FROM shipments ORDER BY id",
		"they keep their order":                                "they keep their order",
		"the trace of their order":                             "the trace of their shipment",
		"the same order changed":                               "the same shipment changed",
		"in the same order":                                    "in the same order",
		"log order is version order":                           "log order is version order",
		"two serial orders of two orders":                      "two serial orders of two shipments",
		"x-order: 2, Order: order_id, ORDER_ID, orderIDs":      "x-order: 2, Shipment: shipment_id, SHIPMENT_ID, shipmentIDs",
		`"\norder" and \border\b and %20orders`:                `"\nshipment" and \bshipment\b and %20shipments`,
		"TestAnOrdersLife requireFirstCallsInOrder OrderExpr":  "TestAShipmentsLife requireFirstCallsInOrder OrderExpr",
		"stream ORDERS, subjects orders.>, border, recorder":   "stream SHIPMENTS, subjects shipments.>, border, recorder",
		"app/ordering and outboxietest/orderstest":             "app/shipmenting and outboxietest/shipmentstest",
		"Ordering by id, ordered, disorder":                    "Ordering by id, ordered, disorder",
		"order.place, orders.created, --order, order/1, ORDER": "shipment.place, shipments.created, --shipment, shipment/1, SHIPMENT",
	} {
		if got := entry.renameAggregate(text, prose); got != want {
			t.Errorf("%q became %q, not %q", text, got, want)
		}
	}
	if got := invoice.renameAggregate("an order, TestAnOrder", prose); got != "an invoice, TestAnInvoice" {
		t.Error(got)
	}
	source := "package p\n\n// in order\nfunc f(order int) { order = 1 } // an order\n"
	if got := entry.renameAggregate(source, code("p.go", source)); got != "package p\n\n// in order\nfunc f(shipment int) { shipment = 1 } // a shipment\n" {
		t.Error(got)
	}
}

// TestServiceAndEngine checks which names of the engine stay.
func TestServiceAndEngine(t *testing.T) {
	r := readEngine(t)
	for text, want := range map[string]string{
		"github.com/assylzhan-a/outboxie/outboxietest/embedded":      "example.com/acme/billing/outboxietest/embedded",
		"https://github.com/assylzhan-a/outboxie/blob/main/x":        "https://example.com/acme/billing/blob/main/x",
		"bin/outboxie, Outboxie, OUTBOXIE_ROLES, OUTBOXIE_PG_HOME":   "bin/billing, Billing, BILLING_ROLES, OUTBOXIE_PG_HOME",
		"outboxie_relay, outboxie.relay.leader, OutboxieNoLeader":    "outboxie_relay, outboxie.relay.leader, OutboxieNoLeader",
		"outboxie.order.paid.v1, outboxie.event.parked.v1":           "billing.order.paid.v1, outboxie.event.parked.v1",
		`"outboxie." + stream, outboxie.ORDERS.wake, outboxie.{s}.x`: `"outboxie." + stream, outboxie.ORDERS.wake, outboxie.{s}.x`,
		"docker/grafana/outboxie.json and .outboxie/":                "docker/grafana/billing.json and .billing/",
		"package outboxie; outboxie.NewRelay; infra.Outboxie(t)":     "package outboxie; outboxie.NewRelay; infra.Billing(t)",
		"cmd/outboxie/relay.go":                                      "cmd/billing/relay.go",
		"an Outboxie":                                                "a Billing",
	} {
		if got := invoice.renameService(invoice.renameModule(text), r); got != want {
			t.Errorf("%q became %q, not %q", text, got, want)
		}
	}
}

// TestLibraryIsNamed checks that an import of the public package has a name, because its path has another last part.
func TestLibraryIsNamed(t *testing.T) {
	_, got, err := invoice.file("outboxie_test.go", []byte("package outboxie_test\n\nimport (\n\t\"github.com/assylzhan-a/outboxie\"\n\t\"github.com/assylzhan-a/outboxie/test/infra\"\n)\n"), readEngine(t))
	if err != nil {
		t.Fatal(err)
	}
	if want := "package outboxie_test\n\nimport (\n\toutboxie \"example.com/acme/billing\"\n\t\"example.com/acme/billing/test/infra\"\n)\n"; string(got) != want {
		t.Errorf("got %s", got)
	}
}

// TestTablesStayAligned checks that columns begin at the same character after words have become longer.
func TestTablesStayAligned(t *testing.T) {
	before := "NAME   SIZE    FROM\norder  1       x\nid     22      y\n"
	after := strings.ReplaceAll(before, "order", "invoice")
	if got := aligned(before, after); got != "NAME     SIZE    FROM\ninvoice  1       x\nid       22      y\n" {
		t.Error(got)
	}
}

// TestBadNames checks that each bad name is refused with a message that names it.
func TestBadNames(t *testing.T) {
	r := readEngine(t)
	if wrong := invoice.check(r); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	change := func(change func(*names)) names {
		n := names{module: "example.com/acme/billing", service: "billing", singular: "invoice"}
		change(&n)
		return n.completed()
	}
	for want, n := range map[string]names{
		"MODULE is missing":                  change(func(n *names) { n.module = "" }),
		"MODULE=billing is not":              change(func(n *names) { n.module = "billing" }),
		"MODULE=example.com/a b is not":      change(func(n *names) { n.module = "example.com/a b" }),
		"MODULE=https://x.org/a is not":      change(func(n *names) { n.module = "https://x.org/a" }),
		"is the module of this project":      change(func(n *names) { n.module = ourModule }),
		"NAME is missing":                    change(func(n *names) { n.service = "" }),
		"NAME=my-service cannot":             change(func(n *names) { n.service = "my-service" }),
		"NAME=func cannot":                   change(func(n *names) { n.service = "func" }),
		"NAME=user cannot":                   change(func(n *names) { n.service = "user" }),
		"NAME=relay is a name of the engine": change(func(n *names) { n.service = "relay" }),
		"NAME=invoice has to differ":         change(func(n *names) { n.service = "invoice" }),
		"AGGREGATE is missing":               change(func(n *names) { n.singular = "" }),
		"AGGREGATE=Invoice cannot":           change(func(n *names) { n.singular = "Invoice" }),
		"AGGREGATE=lease is a word":          change(func(n *names) { n.singular = "lease" }),
		"AGGREGATE=events is a word":         change(func(n *names) { n.singular = "events" }),
		"AGGREGATE=reorder contains":         change(func(n *names) { n.singular = "reorder" }),
		"three different words":              change(func(n *names) { n.plural = "invoice" }),
	} {
		var said []string
		for _, err := range n.check(r) {
			said = append(said, err.Error())
		}
		if !strings.Contains(strings.Join(said, "\n"), want) {
			t.Errorf("%q is not in %q", want, said)
		}
	}
}

// TestBadTreesStayAsTheyAre checks that a tree with uncommitted changes, a renamed tree, and a rename that does not compile are refused, and that
// nothing is changed.
func TestBadTreesStayAsTheyAre(t *testing.T) {
	root := t.TempDir()
	write := func(file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, file)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git := func(args ...string) string {
		t.Helper()
		command := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...)
		command.Dir = root
		output, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		return string(output)
	}
	refused := func(want string) {
		t.Helper()
		if err := run(root, invoice); err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("%v does not say %q", err, want)
		}
	}
	write("go.mod", "module "+ourModule+"\n\ngo 1.24\n")
	write("order.go", "package outboxie\n\nvar Order = missing\n")
	write("internal/order/order.go", "package order\n\nvar Orders = missing // in order\n")
	refused("needs a git repository")
	git("init", "--quiet")
	refused("not committed")
	git("add", "--all")
	git("commit", "--quiet", "--message", "x")
	refused("All files are as they were")
	if status := git("status", "--porcelain"); status != "" {
		t.Fatal(status)
	}
	write("internal/order/invoice.go", "package order\n")
	git("add", "--all")
	git("commit", "--quiet", "--message", "x")
	refused("choose another name")
	write("go.mod", "module example.com/x/y\n")
	refused("renamed before")
}
