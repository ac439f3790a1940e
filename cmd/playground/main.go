// Command playground shows the service at work. run starts the service with its own Postgres and NATS. demo kills parts of the service, and
// checks the delivery. infra runs only the servers. playground starts the program bin/outboxie, and observes it from outside.
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
