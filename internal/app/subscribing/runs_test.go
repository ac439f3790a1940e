//go:build !race

package subscribing_test

// lives is how many random lives the model leads.
const (
	runs      = 150
	underRace = false
)
