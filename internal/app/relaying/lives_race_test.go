//go:build race

package relay_test

// lives is small under the race detector, which makes each of them ten times as slow.
const (
	lives     = "200"
	underRace = true
)
