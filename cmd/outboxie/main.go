// Command outboxie is the order service, its relay, its subscribers and its operators' commands, in one binary. Run it without arguments to
// see the commands. Command playground shows it at work.
package main

import "os"

func main() {
	limitMemory()
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
