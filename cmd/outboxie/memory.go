package main

import "github.com/KimMachineGun/automemlimit/memlimit"

// goShare is the share of the process's memory limit that Go's heap may use.
const goShare = 0.8

// limitMemory sets the limit of Go's garbage collector from the memory limit of the process, for example of its container. So the collector
// runs before the system kills the process. GOMEMLIMIT wins if it is set. If the process has no limit, limitMemory sets nothing.
func limitMemory() { _, _ = memlimit.Set(memlimit.WithRatio(goShare)) }
