package operations

import "context"

// ConnectedProcesses finds the processes that use the database at present.
type ConnectedProcesses interface {
	// Processes returns the names under which processes have connected to the database, sorted and each once. Instances and copies connect
	// under their own names. Other programs, such as a tool for backups, appear too.
	Processes(ctx context.Context) ([]string, error)
}
