package memory

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Halts holds the reports of halted instances.
type Halts struct {
	mu      sync.Mutex
	reports map[string]haltReport
}

type haltReport struct {
	halt        relay.Halt
	since, seen time.Time
}

// NewHalts returns Halts without reports.
func NewHalts() *Halts { return &Halts{reports: make(map[string]haltReport)} }

// InstanceHalts records the halts of one instance.
type InstanceHalts struct {
	halts    *Halts
	instance string
}

var _ relay.InstanceHalts = InstanceHalts{}

// Of returns the InstanceHalts of an instance.
func (h *Halts) Of(instance string) InstanceHalts { return InstanceHalts{h, instance} }

// Record keeps the halt, and the time since which the instance has reported the same reason.
func (i InstanceHalts) Record(ctx context.Context, halt *relay.Halt) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	i.halts.mu.Lock()
	defer i.halts.mu.Unlock()
	if halt == nil {
		delete(i.halts.reports, i.instance)
		return nil
	}
	report := haltReport{halt: *halt, since: time.Now(), seen: time.Now()}
	if before, ok := i.halts.reports[i.instance]; ok && before.halt.Reason == halt.Reason {
		report.since = before.since
	}
	i.halts.reports[i.instance] = report
	return nil
}

// Reported returns the reports that have not expired, by instance.
func (h *Halts) Reported() []operations.InstanceHalt {
	h.mu.Lock()
	defer h.mu.Unlock()
	var reported []operations.InstanceHalt
	for _, instance := range slices.Sorted(maps.Keys(h.reports)) {
		if report := h.reports[instance]; time.Since(report.seen) < relay.HaltReportExpires {
			reported = append(reported, operations.InstanceHalt{
				Instance: instance, RecordedHalt: operations.RecordedHalt{Halt: report.halt, Since: report.since},
			})
		}
	}
	return reported
}

// Age makes every report older.
func (h *Halts) Age(by time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for instance, report := range h.reports {
		report.since, report.seen = report.since.Add(-by), report.seen.Add(-by)
		h.reports[instance] = report
	}
}
