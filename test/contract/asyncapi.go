package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// events is asyncapi.yaml: its schemas, and the document itself.
type events struct {
	document map[string]any
	schemas  *jsonschema.Compiler
}

const eventsURL = "asyncapi.yaml"

var asyncAPI = sync.OnceValues(func() (*events, error) {
	text, err := os.ReadFile(AsyncAPIFile())
	if err != nil {
		return nil, err
	}
	return parseEvents(text)
})

// AsyncAPIFile returns the path of asyncapi.yaml.
func AsyncAPIFile() string { return file("internal/adapters/codec/asyncapi.yaml") }

func parseEvents(text []byte) (*events, error) {
	e := &events{schemas: jsonschema.NewCompiler()}
	if err := yaml.Unmarshal(text, &e.document); err != nil {
		return nil, err
	}
	e.schemas.DefaultDraft(jsonschema.Draft7) // the draft of the schemas in AsyncAPI
	e.schemas.AssertFormat()
	return e, e.schemas.AddResource(eventsURL, e.document)
}

// at returns the node at a path such as components/messages. It follows $ref.
func (e *events) at(path string) map[string]any {
	node := e.document
	for name := range strings.SplitSeq(path, "/") {
		if name == "" {
			continue
		}
		node, _ = node[name].(map[string]any)
		if ref, ok := node["$ref"].(string); ok {
			node = e.at(strings.TrimPrefix(ref, "#/"))
		}
	}
	return node
}

// message returns the path of the message with this name that is sent on a subject. A subject has a message for each version of its event.
func (e *events) message(subject, name string) (path string, err error) {
	var names []string
	for channel := range e.at("channels") {
		if e.at("channels/" + channel)["address"] != subject {
			continue
		}
		for message := range e.at("channels/" + channel + "/messages") {
			path := "channels/" + channel + "/messages/" + message
			if e.at(path)["name"] == name {
				return e.resolve(path), nil
			}
			names = append(names, fmt.Sprint(e.at(path)["name"]))
		}
	}
	if names == nil {
		return "", fmt.Errorf("no channel has the address %s", subject)
	}
	return "", fmt.Errorf("%s is for %s, not for %s", subject, strings.Join(names, ", "), name)
}

// EventNames returns the names of all messages of asyncapi.yaml, sorted. A name is the type of an event with its version.
func EventNames() ([]string, error) {
	e, err := asyncAPI()
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(e.sent())), nil
}

// resolve returns the path to which the $ref at a path leads, or the path itself.
func (e *events) resolve(path string) string {
	parent, name := path[:strings.LastIndex(path, "/")], path[strings.LastIndex(path, "/")+1:]
	node, _ := e.at(parent)[name].(map[string]any)
	if ref, ok := node["$ref"].(string); ok {
		return e.resolve(strings.TrimPrefix(ref, "#/"))
	}
	return path
}

func (e *events) check(path string, value any) error {
	schema, err := e.schemas.Compile(eventsURL + "#/" + path)
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// CheckEvent returns how an event differs from the contract, or nil. A field that the contract does not have is a difference too, although
// subscribers must ignore such fields.
func CheckEvent(subject, kind string, payload []byte) error {
	e, err := asyncAPI()
	if err != nil {
		return err
	}
	path, err := e.message(subject, kind)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err != nil {
		return err
	}
	if err := e.check(path+"/payload", value); err != nil {
		return err
	}
	known := e.fields(e.at(path + "/payload"))
	var members map[string]json.RawMessage
	if err := json.Unmarshal(payload, &members); err != nil {
		return err
	}
	for field := range members {
		if !slices.Contains(known, field) {
			return fmt.Errorf("the contract knows no field %s", field)
		}
	}
	return nil
}

// fields returns the names of a schema's properties, and of the properties of the schemas in its allOf.
func (e *events) fields(schema map[string]any) []string {
	properties, _ := schema["properties"].(map[string]any)
	names := slices.Collect(maps.Keys(properties))
	parts, _ := schema["allOf"].([]any)
	for _, part := range parts {
		part := part.(map[string]any)
		if ref, ok := part["$ref"].(string); ok {
			part = e.at(strings.TrimPrefix(ref, "#/"))
		}
		names = append(names, e.fields(part)...)
	}
	return names
}

// CheckMessage checks a message of the stream as CheckEvent does, and also its headers: by the contract, and with the SDK of CloudEvents. A
// message of this program has the headers that were added since version 0.1.0.
func CheckMessage(subject string, headers map[string][]string, payload []byte) error {
	e, err := asyncAPI()
	if err != nil {
		return err
	}
	event, err := CloudEvent(headers, payload)
	if err != nil {
		return err
	}
	sealed := len(headers["ce-sealedkey"]) > 0
	if !sealed && (event.DataContentType() != "application/json" || event.DataSchema() != "urn:outboxie:schema:"+event.Type()) {
		return fmt.Errorf("the data of %s has the type %q and the schema %q", event.Type(), event.DataContentType(), event.DataSchema())
	}
	flat := make(map[string]any, len(headers))
	for name, values := range headers {
		flat[name] = strings.Join(values, ",")
	}
	kind, _ := flat["ce-type"].(string)
	path, err := e.message(subject, kind)
	if err != nil {
		return err
	}
	if sealed {
		return e.checkSealed(path, flat, payload)
	}
	if err := e.check(path+"/headers", flat); err != nil {
		return err
	}
	return CheckEvent(subject, kind, payload)
}

// checkSealed returns how a message with a sealed payload differs from the contract, or nil. path is that of the plain message.
func (e *events) checkSealed(path string, headers map[string]any, payload []byte) error {
	if err := e.check("components/schemas/SealedHeaders", headers); err != nil {
		return err
	}
	headers = maps.Clone(headers)
	for name := range e.at("components/schemas/SealedHeaders/properties") {
		delete(headers, name)
	}
	headers["content-type"] = "application/json"
	if err := e.check(path+"/headers", headers); err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err != nil {
		return err
	}
	return e.check("components/schemas/Sealed", value)
}
