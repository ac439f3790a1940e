package memory

import "github.com/assylzhan-a/outboxie/internal/domain/fault"

var (
	errDead         = fault.New(fault.Internal, "transaction_over", "the transaction is over")
	errAborted      = fault.New(fault.Internal, "transaction_aborted", "an earlier statement of the transaction failed")
	errCommit       = fault.New(fault.Internal, "commit_failed", "the commit failed")
	errWriters      = fault.New(fault.Unavailable, "outbox_busy", "a transaction that writes the outbox is under way")
	errDisconnected = fault.New(fault.Unavailable, "connection_lost", "the connection was lost")
)
