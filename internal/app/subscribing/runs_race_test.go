//go:build race

package subscribing_test

// runs is small under the race detector, which makes each run five times as slow. `make test` runs the model once more without it.
const (
	runs      = 30
	underRace = true
)
