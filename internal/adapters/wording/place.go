package wording

import (
	"strconv"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// Places are the texts that ParseMoveTarget reads, for people.
const Places = "sequence:N, position:N, time:2026-11-29T10:00:00Z, start or end"

// ParseMoveTarget reads sequence:N, position:N, time:RFC3339, start or end. People name a place in the stream in the same way on the command
// line, over HTTP and in the console.
func ParseMoveTarget(text string) (operations.MoveTarget, error) {
	kind, value, _ := strings.Cut(text, ":")
	number, invalid := strconv.ParseUint(value, 10, 63)
	switch {
	case text == "start":
		return operations.MoveTarget{}, nil
	case text == "end":
		return operations.MoveTarget{End: true}, nil
	case kind == "sequence" && invalid == nil:
		return operations.MoveTarget{Sequence: number}, nil
	case kind == "position" && invalid == nil:
		return operations.MoveTarget{Position: outbox.Position(number)}, nil //nolint:gosec // 63 bits
	case kind == "time":
		if at, err := time.Parse(time.RFC3339Nano, value); err == nil {
			return operations.MoveTarget{Before: at}, nil
		}
	}
	const reason = "must be " + Places
	return operations.MoveTarget{}, operations.ErrMoveTarget.With("%q is no place in the stream: it %s", text, reason).On("to", reason)
}
