//go:build !race

package subscribing_test

// runs is the number of random runs of the model.
const (
	runs      = 150
	underRace = false
)
