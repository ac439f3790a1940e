//go:build race

package subscribing_test

// lives is small under the race detector, which makes each of them five times as slow. `make test` lives them once more without it.
const (
	lives     = 30
	underRace = true
)
