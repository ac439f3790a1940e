package value_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
)

// TestNotes checks which texts are notes.
func TestNotes(t *testing.T) {
	for _, fine := range []string{"x", " ", "ref-1", "Привет, мир", strings.Repeat("é", 200), "\u200d", `'"\?0`} {
		text, err := value.ParseNote(fine, "reference")
		require.NoError(t, err, "%q", fine)
		require.Equal(t, value.Note(fine), text)
	}
	for _, bad := range []string{"", strings.Repeat("é", 201), "a\nb", "\x00", "\u0085", "\x7f", "\xff"} {
		text, err := value.ParseNote(bad, "reference")
		require.ErrorIs(t, err, value.ErrNote, "%q", bad)
		require.Equal(t, "reference", fieldsOf(t, err)[0].Name)
		require.Empty(t, text)
	}
}

// TestIDs checks which texts are UUIDs.
func TestIDs(t *testing.T) {
	const canonical = "550e8400-e29b-41d4-a716-446655440000"
	for text, valid := range map[string]bool{
		canonical:                                true,
		"550E8400-E29B-41D4-A716-446655440000":   true,
		"00000000-0000-0000-0000-000000000000":   true,
		"":                                       false,
		"550e8400e29b41d4a716446655440000":       false,
		"{550e8400-e29b-41d4-a716-446655440000}": false,
		"urn:uuid:" + canonical:                  false,
		canonical + " ":                          false,
		canonical[:35]:                           false,
		canonical[:35] + "g":                     false,
		"550e8400-e29b-41d4-a7164-46655440000":   false,
		"550e8400-e29b-41d4-a716-44665544000K":   false, // the Kelvin sign's lower case is a k
		"550e8400-e29b-41d4-a716-4466554400é":    false,
	} {
		id, err := value.ParseUUID(text, "id")
		customer, customerErr := value.ParseCustomerID(text)
		if valid {
			require.NoError(t, err, text)
			require.NoError(t, customerErr, text)
			require.Len(t, id, 36)
			require.Equal(t, id, string(customer))
			continue
		}
		require.ErrorIs(t, err, value.ErrID, "%q", text)
		require.Equal(t, "id", fieldsOf(t, err)[0].Name)
		require.ErrorIs(t, customerErr, value.ErrID, "%q", text)
		require.Equal(t, "customer_id", fieldsOf(t, customerErr)[0].Name)
	}
	id, err := value.ParseUUID("550E8400-E29B-41D4-A716-446655440000", "id")
	require.NoError(t, err)
	require.Equal(t, canonical, id, "one spelling per id")
}

// TestCheck checks the amounts that a new aggregate may have.
func TestCheck(t *testing.T) {
	require.NoError(t, value.NewMoney(1, "USD").Check())
	require.NoError(t, value.NewMoney(value.MaxAmount, "USD").Check())
	require.ErrorIs(t, value.NewMoney(0, "USD").Check(), value.ErrMoney)
	require.ErrorIs(t, value.NewMoney(-1, "USD").Check(), value.ErrMoney)
	require.ErrorIs(t, value.NewMoney(value.MaxAmount+1, "USD").Check(), value.ErrTooLarge)
}

func fieldsOf(t *testing.T, err error) []fault.Field {
	t.Helper()
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	require.Equal(t, fault.Invalid, f.Kind)
	require.NotEmpty(t, f.Fields)
	return f.Fields
}
