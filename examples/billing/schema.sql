-- The service's own tables. The file runs as one transaction, at each `billing migrate`. The engine's tables are made by Engine.Migrate.
SELECT pg_advisory_xact_lock(4711); -- several processes may migrate at once

CREATE TABLE IF NOT EXISTS invoices (
	id       text PRIMARY KEY,
	customer text NOT NULL,
	cents    bigint NOT NULL CHECK (cents > 0),
	status   text NOT NULL CHECK (status IN ('issued', 'paid', 'voided')),
	version  bigint NOT NULL
);

-- Written by the subscriber `balance` only.
CREATE TABLE IF NOT EXISTS balances (
	customer text PRIMARY KEY,
	issued   bigint NOT NULL,
	paid     bigint NOT NULL,
	voided   bigint NOT NULL,
	owed     bigint GENERATED ALWAYS AS (issued - paid - voided) STORED
);
