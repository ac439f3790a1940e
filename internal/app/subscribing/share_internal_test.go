package subscribing

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestShares checks that each lane belongs to one copy, that no copy has more than its share, and that few lanes change their copy when a
// copy comes or goes.
func TestShares(t *testing.T) {
	for _, lanes := range []int{1, 2, 3, 16, 64} {
		for count := 1; count <= 5; count++ {
			var copies []string
			for i := range count {
				copies = append(copies, "copy-"+strconv.Itoa(i))
			}
			owners := ownersOf(copies[0], copies, lanes)
			has := make(map[string]int)
			for lane, owner := range owners {
				require.Contains(t, copies, owner, "lane %d", lane)
				has[owner]++
			}
			for owner, number := range has {
				require.LessOrEqual(t, number, (lanes+count-1)/count, "%s of %d copies, %d lanes", owner, count, lanes)
			}
			changed := 0
			for lane, owner := range ownersOf("late", append(copies, "late"), lanes) {
				if owner != owners[lane] {
					changed++
				}
			}
			require.LessOrEqual(t, changed, lanes/2+1, "%d lanes, %d copies and a late one", lanes, count)
		}
	}
}

// TestOwnersOfACopyThatIsNotSeen checks that a copy counts itself even if it is not in the list of copies, and that all copies compute the
// same owners.
func TestOwnersOfACopyThatIsNotSeen(t *testing.T) {
	require.Equal(t, ownersOf("b", []string{"a", "b"}, 8), ownersOf("b", []string{"a"}, 8))
	require.Equal(t, ownersOf("a", []string{"a", "b"}, 8), ownersOf("b", []string{"a", "b"}, 8))
}
