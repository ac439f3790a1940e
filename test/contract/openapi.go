// Package contract checks the program against its contracts: requests and answers against openapi.yaml, messages against asyncapi.yaml. Tests
// pass what they sent or received to CheckRequest, CheckAnswer, CheckEvent or CheckMessage.
package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// file returns the path of a file of this repository.
func file(name string) string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "../..", name)
}

// OpenAPI is openapi.yaml, loaded and valid.
var OpenAPI = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromFile(file("internal/adapters/httpapi/openapi.yaml"))
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(context.Background())
})

func init() {
	for _, kind := range []string{"text/html", "text/javascript"} { // the library has no decoder for these
		openapi3filter.RegisterBodyDecoder(kind, openapi3filter.FileBodyDecoder)
	}
	openapi3filter.RegisterBodyDecoder("application/openapi+yaml", openapi3filter.RegisteredBodyDecoder("application/yaml"))
}

var parameter = regexp.MustCompile(`\{(\w+)\}`)

// Operation is an operation of openapi.yaml.
type Operation struct {
	ID, Method, Path string
	Admin            bool // on the admin listener
	TakesNoInput     bool // it has neither a body nor a parameter that can be wrong, so a request cannot be invalid
	Parameters       []*openapi3.Parameter
	Body             *openapi3.Schema // nil: it has none
}

// Operations returns all operations of the contract, in the order of their ids.
func Operations() ([]Operation, error) {
	doc, err := OpenAPI()
	if err != nil {
		return nil, err
	}
	var all []Operation
	for path, item := range doc.Paths.Map() {
		for method, described := range item.Operations() {
			operation := Operation{
				ID: described.OperationID, Method: method, Path: path, Admin: len(item.Servers) > 0,
			}
			for _, parameter := range slices.Concat(item.Parameters, described.Parameters) {
				operation.Parameters = append(operation.Parameters, parameter.Value)
			}
			if described.RequestBody != nil {
				operation.Body = described.RequestBody.Value.Content["application/json"].Schema.Value
			}
			operation.TakesNoInput = operation.Body == nil && !slices.ContainsFunc(operation.Parameters, canBeWrong)
			all = append(all, operation)
		}
	}
	slices.SortFunc(all, func(a, b Operation) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// canBeWrong reports whether some value of a parameter is refused. An If-None-Match that is no tag matches nothing.
func canBeWrong(parameter *openapi3.Parameter) bool { return parameter.Name != "If-None-Match" }

// operation returns the operation of the contract for a request, or nil if the contract does not have the path or the method.
func operation(request *http.Request) (*openapi3filter.RequestValidationInput, error) {
	doc, err := OpenAPI()
	if err != nil {
		return nil, err
	}
	for path, item := range doc.Paths.Map() {
		pattern := "^" + strings.NewReplacer("{", "(?P<", "}", ">[^/]+)").Replace(path) + "$"
		match := regexp.MustCompile(pattern).FindStringSubmatch(request.URL.Path)
		if match == nil || item.Operations()[request.Method] == nil {
			continue
		}
		input := &openapi3filter.RequestValidationInput{
			Request: request,
			Route: &routers.Route{
				Spec: doc, Path: path, PathItem: item, Method: request.Method, Operation: item.Operations()[request.Method],
			},
			PathParams: map[string]string{},
		}
		for i, name := range parameter.FindAllStringSubmatch(path, -1) {
			input.PathParams[name[1]] = match[i+1]
		}
		return input, nil
	}
	return nil, nil
}

// CheckAnswer returns how an answer differs from the contract, or nil. If the contract does not have the request, the answer must be an error
// with a problem document.
func CheckAnswer(request *http.Request, status int, header http.Header, body string) error {
	if request.Method == http.MethodHead {
		if body != "" {
			return fmt.Errorf("the answer to a HEAD has a body: %q", body)
		}
		return nil
	}
	input, err := operation(request)
	if err != nil {
		return err
	}
	if input == nil && status == http.StatusPermanentRedirect {
		return nil // the path has a slash too many
	}
	if input == nil {
		if status != http.StatusNotFound && status != http.StatusMethodNotAllowed && status < http.StatusBadRequest {
			return fmt.Errorf("%s %s is outside of the contract, and was answered with %d", request.Method, request.URL.Path, status)
		}
		return checkProblem(body)
	}
	return openapi3filter.ValidateResponse(request.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input,
		Status:                 status,
		Header:                 header,
		Body:                   io.NopCloser(strings.NewReader(body)),
		Options:                &openapi3filter.Options{IncludeResponseStatus: true},
	})
}

func checkProblem(body string) error {
	doc, err := OpenAPI()
	if err != nil {
		return err
	}
	var document any
	if err := json.Unmarshal([]byte(body), &document); err != nil {
		return fmt.Errorf("no problem document: %w", err)
	}
	return doc.Components.Schemas["Problem"].Value.VisitJSON(document)
}

// CheckRequest returns why the contract refuses a request, or nil. It reads the body.
func CheckRequest(request *http.Request) error {
	input, err := operation(request)
	if err != nil {
		return err
	}
	if input == nil {
		return fmt.Errorf("%s %s is outside of the contract", request.Method, request.URL.Path)
	}
	input.Options = &openapi3filter.Options{
		SkipSettingDefaults: true, // otherwise the library would set null as a default
		AuthenticationFunc:  openapi3filter.NoopAuthenticationFunc,
	}
	return openapi3filter.ValidateRequest(request.Context(), input)
}
