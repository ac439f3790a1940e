package subscribing_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
)

var debugging bool

type syncBuffer struct {
	sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.Write(p)
}

var debugLog syncBuffer

func TestZZ(t *testing.T) {
	seed, err := strconv.Atoi(os.Getenv("LIFE"))
	if err != nil {
		t.Skip()
	}
	tries, _ := strconv.Atoi(os.Getenv("TRIES"))
	debugging = true
	for n := range tries {
		debugLog.Reset()
		problem, _ := live(t, uint64(seed+n), mutant{})
		if problem != "" {
			fmt.Println(debugLog.String())
			fmt.Println("PROBLEM", seed+n, problem)
			return
		}
	}
}

func (w *world) history() {
	if debugging {
		for _, e := range w.inbox.History(subscriber) {
			fmt.Fprintln(&debugLog, "APPLIED", e.Key.ID, e.Position, e.Version)
		}
	}
}

func (w *world) debug(args ...any) {
	if debugging {
		fmt.Fprintln(&debugLog, args...)
	}
}
