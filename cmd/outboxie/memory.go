package main

import "github.com/KimMachineGun/automemlimit/memlimit"

// goShare is how much of the memory that the process may have is left to Go's heap.
const goShare = 0.8

// limitMemory tells the garbage collector of the limit that the process was given, as by a container, so that it collects
// before the process is killed. GOMEMLIMIT is left alone where it is set; where no limit can be found there is none.
func limitMemory() { _, _ = memlimit.Set(memlimit.WithRatio(goShare)) }
