//go:build !linux

package embedded

// adoptOrphans is needed on Linux only.
func adoptOrphans() {}
