package interleavings_test

import (
	"testing"
	"time"
)

func TestSpeed(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	pairsOf := [][2]string{{"renew", "resign"}, {"cancel", "cancel"}, {"relay drains", "relay takes over"}}
	for _, names := range pairsOf {
		a, b := named(names[0]), named(names[1])
		for range 3 {
			var reset, run, rows time.Duration
			for range 50 {
				t0 := time.Now()
				if err := w.reset(ctx, normal); err != nil {
					t.Fatal(err)
				}
				t1 := time.Now()
				r := &interleaving{sides: w.sides, waits: w.waits, cancel: w.cancel}
				if err := r.run(ctx, [2]*operation{a, b}, first(0)); err != nil {
					t.Fatal(err)
				}
				t2 := time.Now()
				if _, err := w.rows(ctx); err != nil {
					t.Fatal(err)
				}
				t3 := time.Now()
				reset, run, rows = reset+t1.Sub(t0), run+t2.Sub(t1), rows+t3.Sub(t2)
			}
			t.Log(names, "reset", reset/50, "run", run/50, "rows", rows/50)
		}
	}
}
