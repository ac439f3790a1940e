//go:build !race

package relaying_test

// runs is how many random schedules each test of the model runs. The flag -rapid.checks changes it.
const (
	runs      = "4000"
	underRace = false
)
