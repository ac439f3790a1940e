// Command playground shows the service at work: run starts it on a Postgres and a NATS of its own, demo kills parts of it and
// checks what was delivered, and infra runs only the servers. It starts the program bin/outboxie and observes it from outside.
package main

import (
	"os"

	"github.com/assylzhan-a/outboxie/internal/playground/processes"
	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
)

func main() {
	embedded.SuperviseIfAsked()
	processes.RunTiedIfAsked()
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
