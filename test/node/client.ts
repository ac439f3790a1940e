// A client of the API, as another team would write it: its types are made from openapi.yaml. It places an order, reads it, pays it and lists
// its events, and checks what it gets. It ends with an error if an answer is not what the types promise.
import createClient from "openapi-fetch"
import type { components, paths } from "./api.js"

declare const process: { argv: string[] }

const client = createClient<paths>({ baseUrl: process.argv[2] ?? "" })
const customer = "550e8400-e29b-41d4-a716-446655440000"

function check(holds: boolean, what: string): asserts holds {
	if (!holds) throw new Error(what)
}

// The compiler refuses requests that the contract does not allow. An unused @ts-expect-error is an error.
export function wrong() {
	// @ts-expect-error customer_id is required
	void client.POST("/orders", { body: { amount: 1 } })
	// @ts-expect-error there is no such path
	void client.GET("/order")
	// @ts-expect-error there is no such status
	void client.GET("/orders", { params: { query: { status: "lost" } } })
}

const key = { "Idempotency-Key": crypto.randomUUID() }
const placed = await client.POST("/orders", { params: { header: key }, body: { customer_id: customer, amount: "100.50" } })
check(placed.data !== undefined, `the order was not placed: ${JSON.stringify(placed.error)}`)
const order: components["schemas"]["Order"] = placed.data
check(order.amount === "100.50" && order.status === "created", JSON.stringify(order))

const again = await client.POST("/orders", { params: { header: key }, body: { customer_id: customer, amount: "100.50" } })
check(again.data?.id === order.id, "the repeated request placed another order")

const path = { id: order.id }
const etag = placed.response.headers.get("ETag") ?? ""
const paid = await client.POST("/orders/{id}/pay", { params: { path, header: { "If-Match": etag } }, body: { reference: "P-1" } })
check(paid.data?.status === "paid" && paid.data.payment_reference === "P-1", JSON.stringify(paid.error))

const stale = await client.POST("/orders/{id}/ship", { params: { path, header: { "If-Match": etag } } })
check(stale.error?.code === "order_version" && stale.error.status === 412, JSON.stringify(stale.data))

const read = await client.GET("/orders/{id}", { params: { path } })
check(read.data?.version === 2, JSON.stringify(read.error))
const known = await client.GET("/orders/{id}", { params: { path, header: { "If-None-Match": '"2"' } } })
check(known.response.status === 304, `${known.response.status}`)

const events = await client.GET("/orders/{id}/events", { params: { path } })
check(events.data?.events.length === 2, JSON.stringify(events.error))
const page = await client.GET("/orders", { params: { query: { customer_id: customer, status: "paid", limit: 1 } } })
check(page.data?.orders[0]?.id === order.id, JSON.stringify(page.error))

const missing = await client.GET("/orders/{id}", { params: { path: { id: customer } } })
check(missing.error?.code === "order_not_found", JSON.stringify(missing.data))

console.log(`order ${order.id} was placed, paid and found`)
