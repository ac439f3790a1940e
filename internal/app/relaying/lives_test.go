//go:build !race

package relaying_test

// lives is how many random lives each test of the model leads, unless -rapid.checks says otherwise.
const (
	lives     = "4000"
	underRace = false
)
