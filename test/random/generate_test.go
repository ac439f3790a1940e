package random_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"pgregory.net/rapid"

	"github.com/assylzhan-a/outboxie/test/contract"
)

// draw makes a random request of an operation. Most parts of most requests are valid.
func (p *program) draw(t *rapid.T, operation contract.Operation) asking {
	base := p.api
	if operation.Admin {
		base = p.admin
	}
	path, query := operation.Path, url.Values{}
	asked := asking{method: operation.Method}
	for _, parameter := range operation.Parameters {
		if !parameter.Required && seldom(t, 2) {
			continue
		}
		text := p.parameter(t, parameter)
		switch parameter.In {
		case openapi3.ParameterInPath:
			path = strings.Replace(path, "{"+parameter.Name+"}", url.PathEscape(text), 1)
		case openapi3.ParameterInQuery:
			query.Add(parameter.Name, text)
		case openapi3.ParameterInHeader:
			asked.headers = append(asked.headers, [2]string{parameter.Name, visible(text)})
		}
		if seldom(t, 50) && parameter.In == openapi3.ParameterInQuery {
			query.Add(parameter.Name, text)
		}
	}
	if seldom(t, 30) {
		query.Add(rapid.String().Draw(t, "unknown parameter"), "x")
	}
	if asked.url = base + path; len(query) > 0 {
		asked.url += "?" + query.Encode()
	}
	if operation.Body == nil && seldom(t, 5) || operation.Body != nil && !seldom(t, 10) {
		asked.body = body(t, operation.Body)
		asked.headers = append(asked.headers, [2]string{"Content-Type", mediaType(t)})
	}
	return asked
}

// seldom returns true once in this many times.
func seldom(t *rapid.T, times int) bool { return rapid.IntRange(1, times).Draw(t, "seldom") == times }

// visible removes what a client cannot send in a header.
func visible(text string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, text), " ") // HTTP leaves out spaces around a value
}

func mediaType(t *rapid.T) string {
	if seldom(t, 20) {
		return rapid.SampledFrom([]string{"text/plain", "application/json; charset=latin1", "application/xml", ";", "application/problem+json"}).Draw(t, "media type")
	}
	return rapid.SampledFrom([]string{"application/json", "application/json; charset=utf-8"}).Draw(t, "media type")
}

// parameter returns a value for a parameter. Most of the time the value names something that exists.
func (p *program) parameter(t *rapid.T, parameter *openapi3.Parameter) string {
	switch name := parameter.Name; {
	case seldom(t, 20):
		return rapid.String().Draw(t, name)
	case name == "id" && len(p.orders) > 0 && !seldom(t, 10):
		return rapid.SampledFrom(p.orders[max(0, len(p.orders)-20):]).Draw(t, name)
	case name == "subscriber":
		return rapid.SampledFrom(subscribers).Draw(t, name)
	case name == "Idempotency-Key":
		fresh := rapid.StringMatching("[!-~]{1,40}")
		return rapid.OneOf(fresh, fresh, fresh, rapid.SampledFrom([]string{"a", "b", "c"})).Draw(t, name)
	case name == "If-Match":
		return rapid.SampledFrom([]string{"*", `"1", "2"`, `"1","2"  , "3"`, `"1"`, `"2"`, `W/"1"`, `"x"`}).Draw(t, name)
	case name == "file":
		return rapid.SampledFrom([]string{"openapi-explorer.min.js", "openapi-explorer.LICENSE", "index.html", ".."}).Draw(t, name)
	case name == "profile": // a CPU profile and a trace take seconds
		return rapid.SampledFrom([]string{"heap", "goroutine", "cmdline", "symbol", "none"}).Draw(t, name)
	case name == "aggregate" && len(p.orders) > 0:
		id := rapid.SampledFrom(p.orders).Draw(t, name)
		return rapid.SampledFrom([]string{id, "order/" + id, "voucher/1"}).Draw(t, name)
	}
	value := conforming(t, parameter.Schema.Value)
	if text, ok := value.(string); ok {
		return text
	}
	return fmt.Sprint(value)
}

// body returns a JSON body, which is sometimes damaged.
func body(t *rapid.T, schema *openapi3.Schema) string {
	if schema == nil {
		schema = openapi3.NewObjectSchema()
	}
	text, err := json.Marshal(object(t, schema))
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case seldom(t, 30):
		return string(text[:rapid.IntRange(0, len(text)).Draw(t, "cut")])
	case seldom(t, 30):
		return string(text) + rapid.String().Draw(t, "rest")
	case seldom(t, 30):
		return strings.Replace(string(text), ",", `,"amount":1,`, 1)
	}
	return string(text)
}

// object returns an object with its required members, some optional members, and sometimes members that are not allowed.
func object(t *rapid.T, schema *openapi3.Schema) map[string]any {
	members := make(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		switch {
		case seldom(t, 20):
			members[name] = anything(t)
		case !seldom(t, 20) && (slices.Contains(schema.Required, name) || !seldom(t, 2)):
			members[name] = conforming(t, schema.Properties[name].Value)
		}
	}
	if seldom(t, 20) {
		members[rapid.String().Draw(t, "unknown member")] = anything(t)
	}
	return members
}

// customers are few, so that lists are long.
var customers = []string{"550e8400-e29b-41d4-a716-446655440000", "550E8400-E29B-41D4-A716-446655440001"}

// conforming returns a value that usually conforms to a schema.
func conforming(t *rapid.T, schema *openapi3.Schema) any {
	switch {
	case len(schema.OneOf) > 0:
		return conforming(t, rapid.SampledFrom(schema.OneOf).Draw(t, "one of").Value)
	case len(schema.Enum) > 0:
		return rapid.SampledFrom(schema.Enum).Draw(t, "enum")
	case schema.Type.Is("boolean"):
		return rapid.Bool().Draw(t, "boolean")
	case schema.Type.Is("integer"):
		return rapid.IntRange(int(*schema.Min), int(*schema.Max)).Draw(t, "integer")
	case schema.Type.Is("number"):
		return json.Number(number.Draw(t, "number"))
	}
	switch {
	case schema.Format == "uuid":
		return rapid.OneOf(rapid.SampledFrom(customers), rapid.StringMatching("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")).Draw(t, "uuid")
	case schema.Format == "date-time":
		at := time.Unix(rapid.Int64Range(-62135596800, 253402300799).Draw(t, "second"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
		return at.In(time.FixedZone("", 60*rapid.IntRange(-720, 720).Draw(t, "zone"))).Format(time.RFC3339Nano)
	case schema.Default == "USD":
		return rapid.SampledFrom([]string{"USD", "EUR", "KZT", "JPY", "XXX", "usd"}).Draw(t, "currency")
	case schema.Pattern != "":
		return rapid.StringMatching(schema.Pattern).Draw(t, "pattern")
	}
	return rapid.OneOf(number, rapid.StringN(int(schema.MinLength), 40, -1)).Draw(t, "string")
}

var (
	usual  = rapid.StringMatching(`[1-9][0-9]{0,6}(\.[0-9]{1,2})?`)
	number = rapid.OneOf(usual, usual, usual, rapid.SampledFrom([]string{"0", "-1", "1e2", "1E-3", "92233720368547758.07", "92233720368547758.08", "1e400", "0.001"}))
)

// anything returns an unexpected value.
func anything(t *rapid.T) any {
	return rapid.SampledFrom([]any{
		nil, true, false, json.Number("0"), json.Number("-1"), json.Number("1e999"), "", "\x00", "\u202e", strings.Repeat("é", 300),
		[]any{},
		[]any{nil},
		map[string]any{},
		map[string]any{"a": []any{1}},
		"550e8400-e29b-41d4-a716-446655440000",
	}).Draw(t, "anything")
}
