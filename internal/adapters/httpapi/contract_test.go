package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/contract"
)

// requireConforming checks an answer against the contract.
func requireConforming(t *testing.T, request *http.Request, got orderResponse) {
	t.Helper()
	require.NoError(t, contract.CheckAnswer(request, got.status, got.header, got.body), got.body)
}

// contractRefuses reports whether a body breaks the contract.
func contractRefuses(t *testing.T, path, body string) bool {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost"+path, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	return contract.CheckRequest(request) != nil
}
