package subscribing

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// ownersOf returns the copy that each lane belongs to.
func ownersOf(t *testing.T, copies []string, lanes int) []string {
	t.Helper()
	owners := make([]string, lanes)
	for _, name := range copies {
		for lane, owned := range shareOf(name, copies, lanes) {
			if owned {
				require.Empty(t, owners[lane], "lane %d belongs to two copies", lane)
				owners[lane] = name
			}
		}
	}
	return owners
}

// TestShares checks that each lane belongs to one copy, that no copy has more than its share, and that few lanes change their copy when
// one comes or goes.
func TestShares(t *testing.T) {
	for _, lanes := range []int{1, 2, 3, 16, 64} {
		for count := 1; count <= 5; count++ {
			var copies []string
			for i := range count {
				copies = append(copies, "copy-"+strconv.Itoa(i))
			}
			owners := ownersOf(t, copies, lanes)
			has := make(map[string]int)
			for lane, owner := range owners {
				require.NotEmpty(t, owner, "lane %d of %d belongs to no copy", lane, lanes)
				has[owner]++
			}
			for owner, number := range has {
				require.LessOrEqual(t, number, (lanes+count-1)/count, "%s of %d copies, %d lanes", owner, count, lanes)
			}
			changed := 0
			for lane, owner := range ownersOf(t, append(copies, "late"), lanes) {
				if owner != owners[lane] {
					changed++
				}
			}
			require.LessOrEqual(t, changed, lanes/2+1, "%d lanes, %d copies and a late one", lanes, count)
		}
	}
}

// TestShareOfACopyThatIsNotSeen checks that a copy counts itself, and that order and repetition of the others' names do not matter.
func TestShareOfACopyThatIsNotSeen(t *testing.T) {
	require.Equal(t, shareOf("b", []string{"a", "b"}, 8), shareOf("b", []string{"a"}, 8))
}
