package ordering_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// TestAChangeIsMadeOnce checks that a repeated change gets its first answer, whatever happened since, and that a change with other notes
// is refused.
func TestAChangeIsMadeOnce(t *testing.T) {
	s := newFixture()
	id := s.placed(t).ID
	paid, err := s.pay(t.Context(), id)
	require.NoError(t, err)
	shipped, err := s.ship(t.Context(), id)
	require.NoError(t, err)
	for range 2 {
		again, err := s.pay(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, paid, again)
		again, err = s.ship(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, shipped, again)
	}
	_, err = s.Pay(t.Context(), order.Anyone(), id, "P-2", orders.Precondition{})
	require.ErrorIs(t, err, order.ErrDiffers)
	_, err = s.cancel(t.Context(), id)
	require.ErrorIs(t, err, order.ErrStatus)
	require.Equal(t, []string{orders.TypeCreated, orders.TypePaid, orders.TypeShipped}, s.eventTypes())
	require.Equal(t, 7, s.notifier.count, "the process that made the change may have died before it notified")
}

func TestAKeyIsForOneChange(t *testing.T) {
	s := newFixture()
	first, second := s.placed(t).ID, s.placed(t).ID
	guard := orders.Precondition{Key: "k"}
	paid, err := s.Pay(t.Context(), order.Anyone(), first, "P-1", guard)
	require.NoError(t, err)
	_, err = s.ship(t.Context(), first)
	require.NoError(t, err)
	again, err := s.Pay(t.Context(), order.Anyone(), first, "P-1", guard)
	require.NoError(t, err)
	require.Equal(t, paid, again)
	for name, other := range map[string]func() error{
		"another reference": func() error { _, err := s.Pay(t.Context(), order.Anyone(), first, "P-2", guard); return err },
		"another order":     func() error { _, err := s.Pay(t.Context(), order.Anyone(), second, "P-1", guard); return err },
		"another change":    func() error { _, err := s.Cancel(t.Context(), order.Anyone(), second, "P-1", guard); return err },
		"a new order":       func() error { _, err := s.Place(t.Context(), order.Anyone(), customer, amount, "k"); return err },
	} {
		require.ErrorIs(t, other(), orders.ErrKeyReused, name)
	}
	_, err = s.Ship(t.Context(), order.Anyone(), second, "", "", orders.Precondition{Key: "s"})
	require.ErrorIs(t, err, order.ErrStatus)
	_, err = s.Pay(t.Context(), order.Anyone(), second, "", orders.Precondition{Key: "s"})
	require.NoError(t, err, "what was refused leaves its key free")
	_, err = s.Ship(t.Context(), order.Anyone(), second, "a b", "c", orders.Precondition{Key: "t"})
	require.NoError(t, err)
	_, err = s.Ship(t.Context(), order.Anyone(), second, "a", "b c", orders.Precondition{Key: "t"})
	require.ErrorIs(t, err, orders.ErrKeyReused, "the words are not run together")
}

// TestAChangeIsMeantForAVersion checks that a change needs an allowed version, and that a retry may carry the version of the first request.
func TestAChangeIsMeantForAVersion(t *testing.T) {
	s := newFixture()
	id := s.placed(t).ID
	pay := func(versions ...int64) error {
		_, err := s.Pay(t.Context(), order.Anyone(), id, "P-1", orders.Precondition{AllowedVersions: versions})
		return err
	}
	require.ErrorIs(t, pay(2), orders.ErrOrderVersion)
	require.NoError(t, pay(1))
	require.NoError(t, pay(1), "sent again")
	require.NoError(t, pay(), "at any version")
	require.NoError(t, pay(7, 2))
	require.ErrorIs(t, pay(3), orders.ErrOrderVersion)
	_, err := s.Ship(t.Context(), order.Anyone(), id, "", "", orders.Precondition{AllowedVersions: []int64{}})
	require.ErrorIs(t, err, orders.ErrOrderVersion, "an empty list means none")
	_, err = s.Ship(t.Context(), order.Anyone(), id, "", "", orders.Precondition{AllowedVersions: []int64{1}})
	require.ErrorIs(t, err, orders.ErrOrderVersion)
	require.ErrorContains(t, err, "at version 2")
	_, err = s.Ship(t.Context(), order.Anyone(), id, "", "", orders.Precondition{AllowedVersions: []int64{2}})
	require.NoError(t, err)
	require.NoError(t, pay(1), "sent again, though it was shipped")
	require.NoError(t, pay(3))
	require.ErrorIs(t, pay(2), orders.ErrOrderVersion, "neither what it was made from, nor what is")
	_, err = s.Cancel(t.Context(), order.Anyone(), id, "", orders.Precondition{AllowedVersions: []int64{1}})
	require.ErrorIs(t, err, orders.ErrOrderVersion, "first of all it is stale")
	_, err = s.Cancel(t.Context(), order.Anyone(), id, "", orders.Precondition{AllowedVersions: []int64{3}})
	require.ErrorIs(t, err, order.ErrStatus)
	_, err = s.Pay(t.Context(), order.Anyone(), id, "P-2", orders.Precondition{AllowedVersions: []int64{3}})
	require.ErrorIs(t, err, order.ErrDiffers)
}
