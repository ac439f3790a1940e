package value

import (
	"strings"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// ErrID reports that a text is not a UUID.
var ErrID = fault.New(fault.Invalid, "invalid_id", "not a UUID")

// CustomerID is a customer's UUID in canonical form.
type CustomerID string

// ParseCustomerID accepts a UUID of 36 characters in either case.
func ParseCustomerID(text string) (CustomerID, error) {
	canonical, err := ParseUUID(text, "customer_id")
	return CustomerID(canonical), err
}

// ParseUUID accepts a UUID of 36 characters in either case, and returns it in canonical form (lower case). Otherwise it fails with an ErrID that
// names field. Each aggregate has a type for its ids, and parses them with ParseUUID.
func ParseUUID(text, field string) (string, error) {
	canonical := strings.ToLower(text)
	valid := len(canonical) == 36
	for i := 0; valid && i < len(canonical); i++ {
		switch i {
		case 8, 13, 18, 23:
			valid = canonical[i] == '-'
		default:
			valid = strings.IndexByte("0123456789abcdef", canonical[i]) >= 0
		}
	}
	if !valid {
		const reason = "must be a UUID such as 550e8400-e29b-41d4-a716-446655440000"
		return "", ErrID.With("%s %s", field, reason).On(field, reason)
	}
	return canonical, nil
}
