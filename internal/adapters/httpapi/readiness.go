package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/gin-gonic/gin"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// probes serves readiness, and logs when a check starts to fail and when it succeeds again.
type probes struct {
	checks  []Check
	access  access
	refused *refusals
	drain   *Drain
	logger  *slog.Logger

	mu     sync.Mutex
	failed map[string]bool
}

// ready answers with the result of each check. Only a request with a token gets the reasons, because a reason can name users, databases
// and hosts.
func (p *probes) ready(c *gin.Context) error {
	ctx := c.Request.Context()
	report := readiness(ctx, p.checks)
	if ctx.Err() == nil { // if ctx has ended, the checks may have failed because the client went away
		p.log(ctx, report)
	}
	if p.drain.Draining() {
		report.Status = ReadinessStatusUnavailable
		report.Checks = append(report.Checks, CheckResult{
			Name: shutdownCheck, Status: CheckResultStatusFailed, Reason: optional("the process is about to stop, and wants no further requests"),
		})
	}
	_, why, err := p.access.judge(c.Request, operations.ScopeRead)
	if err != nil {
		for i := range report.Checks {
			report.Checks[i].Reason = nil
		}
	}
	if why == refusedToken {
		p.refused.note(c, why)
	}
	status := http.StatusOK
	if report.Status == ReadinessStatusUnavailable {
		status = http.StatusServiceUnavailable
	}
	return answer(c, status, report)
}

func (p *probes) log(ctx context.Context, report Readiness) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, check := range report.Checks {
		switch failed := check.Reason != nil; {
		case failed && !p.failed[check.Name]:
			p.logger.WarnContext(ctx, "a check of readiness fails", "check", check.Name, "reason", *check.Reason, "status", string(report.Status))
		case !failed && p.failed[check.Name]:
			p.logger.InfoContext(ctx, "a check of readiness succeeds again", "check", check.Name, "status", string(report.Status))
		}
		p.failed[check.Name] = check.Reason != nil
	}
}

// RunChecks runs all checks at once, and returns the error of each. A check that does not answer within two seconds has failed.
func RunChecks(ctx context.Context, checks []Check) []error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	answers := make([]chan error, len(checks))
	for i, check := range checks {
		answers[i] = make(chan error, 1)
		go func() { answers[i] <- probe(ctx, check) }()
	}
	failures := make([]error, len(checks))
	for i := range checks {
		failures[i] = await(ctx, answers[i])
	}
	return failures
}

func readiness(ctx context.Context, checks []Check) Readiness {
	failures := RunChecks(ctx, checks)
	report := Readiness{Status: ReadinessStatusReady, Checks: make([]CheckResult, len(checks))}
	for i, check := range checks {
		report.Checks[i] = CheckResult{Name: check.Name, Status: CheckResultStatusOk}
		if err := failures[i]; err != nil {
			reason := err.Error()
			report.Checks[i].Status, report.Checks[i].Reason = CheckResultStatusFailed, &reason
			switch {
			case check.Required:
				report.Status = ReadinessStatusUnavailable
			case report.Status == ReadinessStatusReady:
				report.Status = ReadinessStatusDegraded
			}
		}
	}
	return report
}

// await waits for the answer until ctx ends. It returns an answer that is there even if ctx has ended.
func await(ctx context.Context, answer <-chan error) error {
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-answer:
		return err
	default:
		return fmt.Errorf("no answer within %s", probeTimeout)
	}
}

func probe(ctx context.Context, check Check) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("the check panicked: %v", reason)
		}
	}()
	return check.Probe(ctx)
}
