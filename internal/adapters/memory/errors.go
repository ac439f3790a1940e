package memory

import "github.com/assylzhan-a/outboxie/internal/domain/fault"

var (
	errTransactionOver = fault.New(fault.Internal, "transaction_over", "the transaction is over")
	errAborted         = fault.New(fault.Internal, "transaction_aborted", "an earlier statement of the transaction failed")
	errCommit          = fault.New(fault.Internal, "commit_failed", "the commit failed")
	errLost            = fault.New(fault.Unavailable, "commit_unknown", "the connection was lost during the commit")
	errWriters         = fault.New(fault.Unavailable, "outbox_busy", "a transaction that writes the outbox is under way")
	errDisconnected    = fault.New(fault.Unavailable, "connection_lost", "the connection was lost")
	errIdle            = fault.New(fault.Unavailable, "transaction_idle", "the transaction was idle for too long, so the database ended it")
	errDeadlock        = fault.New(fault.Unavailable, "deadlock", "two transactions wait for each other")
)
