// Command outboxie is the order service, its relay and its subscribers, in one binary. Run it without arguments to see the
// commands.
package main

import (
	"os"

	"github.com/assylzhan-a/outboxie/internal/adapters/embedded"
	"github.com/assylzhan-a/outboxie/internal/demo"
)

func main() {
	embedded.SuperviseIfAsked()
	demo.EndWithDemo()
	limitMemory()
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
