package postgres_test

import (
	"testing"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox/inboxtest"
)

func TestEmitter(t *testing.T) {
	inboxtest.TestEmitter(t, func(t *testing.T) inboxtest.EmitStore {
		h := newHarness(t)
		return inboxtest.EmitStore{LetterStore: h.letterStore(), Emitter: postgres.NewEmitter(), Log: h.log}
	})
}
