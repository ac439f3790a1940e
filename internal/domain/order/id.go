package order

import "github.com/assylzhan-a/outboxie/internal/domain/value"

// ID is an order's UUID in canonical form (36 characters, lower case).
type ID string

// ParseID accepts a UUID of 36 characters in either case. Otherwise it fails with value.ErrID.
func ParseID(text string) (ID, error) {
	canonical, err := value.ParseUUID(text, "id")
	return ID(canonical), err
}
