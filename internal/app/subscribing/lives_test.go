//go:build !race

package subscribing_test

// lives is how many random lives the model leads.
const (
	lives     = 150
	underRace = false
)
