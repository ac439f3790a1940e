package main

import "github.com/KimMachineGun/automemlimit/memlimit"

// goShare is the share of the process's memory limit that Go's heap may use.
const goShare = 0.8

// limitMemory sets the garbage collector's limit from the memory limit of the process, for example of its container, so that it collects before
// the process is killed. If GOMEMLIMIT is set, it wins. If the process has no limit, nothing is set.
func limitMemory() { _, _ = memlimit.Set(memlimit.WithRatio(goShare)) }
