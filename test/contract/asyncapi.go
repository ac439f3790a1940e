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
	text, err := os.ReadFile(file("internal/adapters/codec/asyncapi.yaml"))
	if err != nil {
		return nil, err
	}
	e := &events{schemas: jsonschema.NewCompiler()}
	if err := yaml.Unmarshal(text, &e.document); err != nil {
		return nil, err
	}
	e.schemas.DefaultDraft(jsonschema.Draft7) // the draft of the schemas in AsyncAPI
	e.schemas.AssertFormat()
	return e, e.schemas.AddResource(eventsURL, e.document)
})

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

// message returns the path and the name of the message that is sent on a subject.
func (e *events) message(subject string) (path, name string, err error) {
	for channel := range e.at("channels") {
		path := "channels/" + channel
		if e.at(path)["address"] == subject {
			ref, _ := e.at(path + "/messages")["event"].(map[string]any)["$ref"].(string)
			path = strings.TrimPrefix(ref, "#/")
			name, _ := e.at(path)["name"].(string)
			return path, name, nil
		}
	}
	return "", "", fmt.Errorf("no channel has the address %s", subject)
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
	path, name, err := e.message(subject)
	if err != nil {
		return err
	}
	if kind != name {
		return fmt.Errorf("%s is for %s, not for %s", subject, name, kind)
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

// CheckMessage checks a message of the stream as CheckEvent does, and also its headers.
func CheckMessage(subject string, headers map[string][]string, payload []byte) error {
	e, err := asyncAPI()
	if err != nil {
		return err
	}
	flat := make(map[string]any, len(headers))
	for name, values := range headers {
		flat[name] = strings.Join(values, ",")
	}
	path, _, err := e.message(subject)
	if err != nil {
		return err
	}
	if err := e.check(path+"/headers", flat); err != nil {
		return err
	}
	kind, _ := flat["ce-type"].(string)
	return CheckEvent(subject, kind, payload)
}
