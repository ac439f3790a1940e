package contract

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Incompatible returns how the messages of the present asyncapi.yaml break those of an earlier one, sorted; none: every reader of the earlier
// document reads new messages, and every reader of the present document reads messages that are in the stream since then.
//
// A message must stay, on its subject. A field must stay as it is: every keyword of its schema, and whether it is required. So a field that was
// optional does not become required, because old messages do not have it. A new optional field is compatible, and so is a new message. Texts
// for people, such as a description, may change.
func Incompatible(earlier, present []byte) ([]string, error) {
	before, err := parseEvents(earlier)
	if err != nil {
		return nil, err
	}
	after, err := parseEvents(present)
	if err != nil {
		return nil, err
	}
	var broken []string
	sent := after.sent()
	for name, was := range before.sent() {
		is, found := sent[name]
		if !found {
			broken = append(broken, name+": the message was removed")
			continue
		}
		if was.subject != is.subject {
			broken = append(broken, fmt.Sprintf("%s: its subject was %s, and is %s", name, was.subject, is.subject))
		}
		broken = append(broken, compare(name+": ", was.payload, is.payload)...)
		delete(was.headers["ce-type"].keywords, "pattern") // it has the names of all messages, and these are compared
		delete(is.headers["ce-type"].keywords, "pattern")
		broken = append(broken, compare(name+": header ", was.headers, is.headers)...)
	}
	slices.Sort(broken)
	return broken, nil
}

// sentMessage is a message of a document. Its fields are by path, such as total.amount; the path "" stands for the whole value.
type sentMessage struct {
	subject          string
	payload, headers map[string]field
}

// field is what a schema says of a field.
type field struct {
	required bool
	keywords map[string][]any // several schemas of an allOf can have the same keyword
}

// sent returns the messages of the document by name.
func (e *events) sent() map[string]sentMessage {
	found := map[string]sentMessage{}
	for channel := range e.at("channels") {
		subject, _ := e.at("channels/" + channel)["address"].(string)
		for message := range e.at("channels/" + channel + "/messages") {
			path := e.resolve("channels/" + channel + "/messages/" + message)
			name, _ := e.at(path)["name"].(string)
			one := sentMessage{subject: subject, payload: map[string]field{}, headers: map[string]field{}}
			e.flatten(e.at(path+"/payload"), "", one.payload)
			e.flatten(e.at(path+"/headers"), "", one.headers)
			found[name] = one
		}
	}
	return found
}

// textKeywords are the keywords that no reader depends on.
var textKeywords = []string{"title", "description", "examples", "$comment", "externalDocs"}

// flatten adds the fields of a schema, and of its parts, to fields. Keywords that it does not know are compared as a whole.
func (e *events) flatten(schema map[string]any, at string, fields map[string]field) {
	if ref, ok := schema["$ref"].(string); ok {
		schema = e.at(strings.TrimPrefix(ref, "#/"))
	}
	get := func(path string) field {
		one := fields[path]
		if one.keywords == nil {
			one.keywords = map[string][]any{}
		}
		return one
	}
	fields[at] = get(at)
	for keyword, value := range schema {
		switch keyword {
		case "allOf":
			for _, part := range value.([]any) {
				e.flatten(part.(map[string]any), at, fields)
			}
		case "properties":
			for name, property := range value.(map[string]any) {
				e.flatten(property.(map[string]any), below(at, name), fields)
			}
		case "items":
			e.flatten(value.(map[string]any), at+"[]", fields)
		case "required":
			for _, name := range value.([]any) {
				one := get(below(at, name.(string)))
				one.required = true
				fields[below(at, name.(string))] = one
			}
		default:
			if !slices.Contains(textKeywords, keyword) {
				fields[at].keywords[keyword] = append(fields[at].keywords[keyword], value)
			}
		}
	}
}

func below(parent, name string) string { return strings.TrimPrefix(parent+"."+name, ".") }

// compare returns how fields of the present break those that were.
func compare(of string, was, is map[string]field) (broken []string) {
	for path, before := range was {
		after, found := is[path]
		if !found {
			broken = append(broken, of+path+" was removed")
			continue
		}
		if before.required && !after.required {
			broken = append(broken, of+path+" was required, and can be missing now")
		}
		if !before.required && after.required {
			broken = append(broken, of+path+" is required now, and old messages can lack it")
		}
		keywords := maps.Clone(before.keywords)
		maps.Copy(keywords, after.keywords)
		for _, keyword := range slices.Sorted(maps.Keys(keywords)) {
			if !sameValues(before.keywords[keyword], after.keywords[keyword]) {
				broken = append(broken, fmt.Sprintf("%s%s: its %s was %v, and is %v", of, path, keyword, before.keywords[keyword], after.keywords[keyword]))
			}
		}
	}
	for path, added := range is {
		if _, found := was[path]; !found && added.required {
			broken = append(broken, of+path+" is new and required, and old messages do not have it")
		}
	}
	return broken
}

// sameValues reports whether two lists have the same values, in any order.
func sameValues(some, others []any) bool {
	left := slices.Clone(others)
	for _, value := range some {
		at := slices.IndexFunc(left, func(other any) bool { return reflect.DeepEqual(value, other) })
		if at < 0 {
			return false
		}
		left = slices.Delete(left, at, at+1)
	}
	return len(left) == 0
}
