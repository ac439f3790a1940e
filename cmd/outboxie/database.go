package main

import (
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/config"
)

// serveTables returns the sets of tables that serve uses. An instance without the API does not use the tables of the service.
func serveTables(c config.Config) []postgres.Set {
	if c.Roles.API {
		return postgres.Sets()
	}
	return []postgres.Set{postgres.EngineTables}
}
