package embedded

import "golang.org/x/sys/unix"

// adoptOrphans makes this process the one that reaps the server, which detaches itself from the process that started it: the
// first process of a container may not do it, and a dead server would look alive for ever.
func adoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }
