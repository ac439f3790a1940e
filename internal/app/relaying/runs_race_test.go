//go:build race

package relaying_test

// runs is small under the race detector, which makes each run ten times as slow.
const (
	runs      = "200"
	underRace = true
)
