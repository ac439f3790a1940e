package subscribing_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

var traces sync.Map

func (w *world) trace(format string, args ...any) {
	b, _ := traces.LoadOrStore(w, &strings.Builder{})
	tmu.Lock()
	defer tmu.Unlock()
	fmt.Fprintf(b.(*strings.Builder), "%s "+format+"\n", append([]any{time.Now().Format("04:05.000")}, args...)...)
}

var tmu sync.Mutex

func (w *world) dump(problem string, seed uint64) {
	b, ok := traces.LoadAndDelete(w)
	if ok && problem != "" && os.Getenv("DUMP") != "" {
		_ = os.WriteFile(fmt.Sprintf("%s-%d.txt", os.Getenv("DUMP"), seed), []byte(problem+"\n"+b.(*strings.Builder).String()), 0o600)
	}
}

func TestMany(t *testing.T) {
	from, to := 0, 1000
	fmt.Sscanf(os.Getenv("SEEDS"), "%d-%d", &from, &to)
	start := time.Now()
	found := 0
	for seed := from; seed < to && time.Since(start) < 3*time.Minute; seed++ {
		problem, _ := live(t, uint64(seed), mutants[os.Getenv("MUTANT")])
		if problem != "" {
			t.Log(seed, problem)
			if found++; found > 5 {
				return
			}
		}
	}
}
