package memory

import "github.com/assylzhan-a/outboxie/internal/domain/fault"

var (
	errDead         = fault.New(fault.Internal, "transaction_over", "the transaction is over")
	errVersionTaken = fault.New(fault.Conflict, "version_taken", "the aggregate already has an event of that version")
)
