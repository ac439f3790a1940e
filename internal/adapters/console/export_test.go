package console

import (
	"maps"
	"slices"
)

// Actions returns the names of all actions.
func (c *Console) Actions() []string { return slices.Sorted(maps.Keys(c.actions)) }

// Templates returns the names of the templates of pages.
func Templates() []string { return slices.Sorted(maps.Keys(parsePages())) }
