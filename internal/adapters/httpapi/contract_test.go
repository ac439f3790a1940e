package httpapi_test

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/stretchr/testify/require"
)

// contract is openapi.yaml, loaded and valid.
var contract = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(context.Background())
})

// operation finds what the contract says of a request, nil if it does not know the path or the method.
func operation(t *testing.T, request *http.Request) *openapi3filter.RequestValidationInput {
	t.Helper()
	doc, err := contract()
	require.NoError(t, err)
	for path, item := range doc.Paths.Map() {
		pattern := "^" + strings.ReplaceAll(path, "{id}", "([^/]*)") + "$"
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
		if len(match) > 1 {
			input.PathParams["id"] = match[1]
		}
		return input
	}
	return nil
}

// requireConforming checks an answer against the contract.
func requireConforming(t *testing.T, request *http.Request, got answer) {
	t.Helper()
	if request.Method == http.MethodHead {
		require.Empty(t, got.body)
		return
	}
	input := operation(t, request)
	if input == nil {
		require.Contains(t, []int{http.StatusNotFound, http.StatusMethodNotAllowed}, got.status, "outside the contract")
		return
	}
	require.NoError(t, openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input,
		Status:                 got.status,
		Header:                 got.header,
		Body:                   io.NopCloser(strings.NewReader(got.body)),
		Options:                &openapi3filter.Options{IncludeResponseStatus: true},
	}), got.body)
}

// contractRefuses tells whether the contract alone refuses the body of POST /orders.
func contractRefuses(t *testing.T, body string) bool {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/orders", strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	input := operation(t, request)
	input.Options = &openapi3filter.Options{SkipSettingDefaults: true} // or else null would be the default
	return openapi3filter.ValidateRequest(t.Context(), input) != nil
}
