package httpapi_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/test/contract"
)

// TestEveryCodeIsInTheContract checks that the contract has each code that the source declares, and that the contract's table
// explains each code.
func TestEveryCodeIsInTheContract(t *testing.T) {
	declared := regexp.MustCompile(`fault\.New\(fault\.(\w+), "(\w+)"`)
	bugs := map[string]bool{
		"order_exists": true, // ids are random, so this is a bug
	}
	found := 0
	for _, folder := range []string{"../../domain/order", "../../ports/orders", "../../ports/operations", "."} {
		files, err := filepath.Glob(folder + "/*.go")
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, code := range declared.FindAllStringSubmatch(string(text), -1) {
				known := httpapi.ProblemCode(code[2]).Valid()
				require.True(t, known || code[1] == "Internal" || bugs[code[2]], "%s is not in openapi.yaml", code[2])
				found++
			}
		}
	}
	require.Greater(t, found, 20)

	doc, err := contract.OpenAPI()
	require.NoError(t, err)
	for _, code := range doc.Components.Schemas["Problem"].Value.Properties["code"].Value.Enum {
		require.Regexp(t, `(?m)^\| \d{3} \|.*`+"`"+code.(string)+"`", doc.Info.Description, "the table leaves it out")
	}
}
