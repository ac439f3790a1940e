package jetstream

import natsjs "github.com/nats-io/nats.go/jetstream"

// Decision is the program's rule about one setting, for tests.
type Decision struct {
	Name, Value, Verdict, Meaning, Repair string
	Checked                               bool // whether the program has a check for this rule
}

// The verdicts, as texts.
const (
	SetByRelay = string(setByRelay)
	Harmless   = string(harmless)
	Warned     = string(warned)
	Refused    = string(refused)
)

func StreamDecisions() (all []Decision) {
	for _, r := range streamRules {
		all = append(all, Decision{r.name, r.value, string(r.reaction), r.meaning, r.repair, r.found != nil})
	}
	return all
}

// Broken returns the names of the rules that a stream breaks.
func Broken(have natsjs.StreamConfig, o PublisherOptions) (names []string) {
	for _, by := range []reaction{warned, refused} {
		for _, rule := range brokenRules(have, o, by) {
			names = append(names, rule.name)
		}
	}
	return names
}

var (
	TooOld  = tooOld
	Overlap = overlap
)

// OpenToAll exports Options.openToAll.
var OpenToAll = Options.openToAll
