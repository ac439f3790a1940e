package contract_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/contract"
)

const released = "testdata/asyncapi"

// TestContractOfEventsIsCompatible checks asyncapi.yaml against that of each release: no message and no field was removed or changed, and no
// field became required. It also checks that each release of CHANGELOG.md has its file, and that no file was changed.
func TestContractOfEventsIsCompatible(t *testing.T) {
	require.NoError(t, contract.CheckPublished(os.DirFS(released)))
	present, err := os.ReadFile(contract.AsyncAPIFile())
	require.NoError(t, err)
	changelog, err := os.ReadFile("../../CHANGELOG.md")
	require.NoError(t, err)
	releases := regexp.MustCompile(`(?m)^## \[(\d\S*)\]`).FindAllStringSubmatch(string(changelog), -1)
	require.NotEmpty(t, releases)
	for _, release := range releases {
		earlier, err := os.ReadFile(filepath.Join(released, release[1]+".yaml"))
		require.NoError(t, err, "a release adds its asyncapi.yaml here")
		broken, err := contract.Incompatible(earlier, present)
		require.NoError(t, err)
		require.Empty(t, broken, "version %s: publish a new type beside the old one instead (docs/event-evolution.md)", release[1])
	}
}

// shop is a contract with two versions of one event on the same subject.
const shop = `
channels:
  sold:
    address: shop.sold
    messages: { v1: { $ref: "#/components/messages/V1" }, v2: { $ref: "#/components/messages/V2" } }
components:
  messages:
    V1: { name: shop.sold.v1, headers: { $ref: "#/components/schemas/Headers" }, payload: { $ref: "#/components/schemas/V1" } }
    V2: { name: shop.sold.v2, headers: { $ref: "#/components/schemas/Headers" }, payload: { $ref: "#/components/schemas/V2" } }
  schemas:
    Headers:
      type: object
      required: [ce-id]
      properties: { ce-id: { type: string }, ce-type: { type: string, pattern: v1|v2 }, X-Tenant: { type: string } }
    Base:
      type: object
      required: [id, state]
      properties:
        id: { type: string, format: uuid }
        state: { type: string, enum: [new, sold] }
        note: { type: string, description: anything }
        total: { type: object, required: [amount], properties: { amount: { type: string }, currency: { type: string } } }
        lines: { type: array, items: { type: object, required: [sku], properties: { sku: { type: string } } } }
    V1: { allOf: [{ $ref: "#/components/schemas/Base" }, { properties: { state: { const: sold } } }] }
    V2: { allOf: [{ $ref: "#/components/schemas/Base" }, { required: [buyer], properties: { buyer: { type: string } } }] }
`

// TestIncompatibleChangesAreNoticed checks that each change which breaks a reader is noticed and named, and that no other change is.
func TestIncompatibleChangesAreNoticed(t *testing.T) {
	for name, c := range map[string]struct{ old, replacement, noticed string }{
		"nothing":                         {"", "", ""},
		"a new optional field":            {"note: {", "remark: { type: integer }\n        note: {", ""},
		"a new optional field within":     {"currency:", "rate: { type: number }, currency:", ""},
		"a new optional header":           {"X-Tenant:", "X-Region: { type: string }, X-Tenant:", ""},
		"a new message":                   {"v1: {", `v3: { name: shop.sold.v3, payload: { type: object } }, v1: {`, ""},
		"another description":             {"anything", "something", ""},
		"the pattern of all types":        {"v1|v2", "v1|v2|v3", ""},
		"a message removed":               {`v1: { $ref: "#/components/messages/V1" }, `, "", "shop.sold.v1: the message was removed"},
		"a message under another name":    {"name: shop.sold.v1", "name: shop.bought.v1", "shop.sold.v1: the message was removed"},
		"another subject":                 {"address: shop.sold", "address: shop.sales", "its subject was shop.sold, and is shop.sales"},
		"a field removed":                 {"note: { type: string, description: anything }", "", "shop.sold.v2: note was removed"},
		"a field removed within":          {", currency: { type: string }", "", "total.currency was removed"},
		"a field of a list removed":       {", properties: { sku: { type: string } }", "", "lines[].sku: its type was [string], and is []"},
		"a field renamed":                 {"note:", "notes:", "note was removed"},
		"another type":                    {"note: { type: string", "note: { type: integer", "note: its type was [string], and is [integer]"},
		"another format":                  {"format: uuid", "format: uri", "id: its format was [uuid], and is [uri]"},
		"a stricter field":                {"note: { type: string", "note: { type: string, maxLength: 9", "note: its maxLength was [], and is [9]"},
		"one more value":                  {"[new, sold]", "[new, sold, lost]", "state: its enum was"},
		"another constant of one message": {"const: sold", "const: new", "shop.sold.v1: state: its const was [sold], and is [new]"},
		"no more fields allowed":          {"type: object\n      required: [id", "type: object\n      additionalProperties: false\n      required: [id", "its additionalProperties was [], and is [false]"},
		"a new required field":            {"[buyer], properties: {", "[buyer, seller], properties: { seller: { type: string },", "seller is new and required"},
		"an old field required":           {"[id, state]", "[id, state, note]", "note is required now"},
		"a required field not any more":   {"[id, state]", "[id]", "state was required, and can be missing now"},
		"not required any more within":    {"required: [sku]", "required: []", "lines[].sku was required, and can be missing now"},
		"a header removed":                {", X-Tenant: { type: string }", "", "header X-Tenant was removed"},
		"a header required":               {"[ce-id]", "[ce-id, X-Tenant]", "header X-Tenant is required now"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, shop, c.old)
			broken, err := contract.Incompatible([]byte(shop), []byte(strings.Replace(shop, c.old, c.replacement, 1)))
			require.NoError(t, err)
			if c.noticed == "" {
				require.Empty(t, broken)
				return
			}
			require.Contains(t, strings.Join(broken, "\n"), c.noticed)
		})
	}
	_, err := contract.Incompatible([]byte(shop), []byte("{"))
	require.Error(t, err)
	_, err = contract.Incompatible([]byte("{"), []byte(shop))
	require.Error(t, err)
}

// TestPublishedFilesStay checks that a changed, a removed and an unlisted file are noticed.
func TestPublishedFilesStay(t *testing.T) {
	const sum = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" // of {}
	folder := func(list string, files ...string) fstest.MapFS {
		made := fstest.MapFS{"SHA256SUMS": {Data: []byte(list)}}
		for _, name := range files {
			made[name] = &fstest.MapFile{Data: []byte("{}")}
		}
		return made
	}
	both := sum + "  a.json\n" + sum + "  b/c.json\n"
	require.NoError(t, contract.CheckPublished(folder(both, "a.json", "b/c.json")))
	require.ErrorContains(t, contract.CheckPublished(folder(both, "a.json")), "b/c.json was removed")
	require.ErrorContains(t, contract.CheckPublished(folder(sum+"  a.json\n", "a.json", "b/c.json")), "b/c.json is new")
	require.ErrorContains(t, contract.CheckPublished(folder("a.json", "a.json")), "has the line")
	require.Error(t, contract.CheckPublished(fstest.MapFS{}))
	changed := folder(both, "a.json", "b/c.json")
	changed["b/c.json"].Data = []byte("{ }")
	require.ErrorContains(t, contract.CheckPublished(changed), "b/c.json was changed")
}
