-- The least that each part of Outboxie needs in Postgres. Run it as a superuser (or the database's owner with CREATEROLE), in
-- the database: once before the first `outboxie migrate up`, which then runs as outboxie_migrator, and after every migration.
-- It may be run any number of times.
--
-- The roles have no password, so nobody can log in as one of them until you give it one (ALTER ROLE … PASSWORD), or let it in
-- by a certificate:
--   outboxie_migrator    migrate
--   outboxie_writer      serve --roles api: everything that changes orders, and any other writer of the outbox
--   outboxie_relay       serve --roles relay, and the operator's commands: outbox …
--   outboxie_subscriber  subscribe, and the operator's commands: subscriber …
--   outboxie_emitter     the same, for a subscriber whose handler emits events: it may append to the outbox
--   outboxie_operator    what the relay may, and `outbox adopt` after the sequence of the outbox went back
-- TestLeastPrivilege runs everything under these, and shows what each is refused, and what a role is refused that is none of them.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY ['outboxie_migrator', 'outboxie_writer', 'outboxie_relay', 'outboxie_subscriber', 'outboxie_emitter',
        'outboxie_operator'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', name);
        END IF;
    END LOOP;
END $$;

-- Only these six connect. Nobody makes temporary tables: a temporary table named outbox would take a session's events, which
-- vanish with it.
DO $$
BEGIN
    EXECUTE format('REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO outboxie_migrator, outboxie_writer, outboxie_relay, outboxie_subscriber, '
        'outboxie_emitter, outboxie_operator', current_database());
END $$;

-- Nobody fills the disk with large objects, which every role may create otherwise, without any right to a table. Only a
-- superuser can take that away.
DO $$
DECLARE
    made regprocedure;
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RAISE WARNING 'Every role that may connect can still create large objects: run this file as a superuser to prevent that.';
        RETURN;
    END IF;
    FOR made IN SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname IN (
        'lo_creat', 'lo_create', 'lo_from_bytea', 'lo_import', 'lo_export', 'lo_open', 'lo_put', 'lo_truncate', 'lo_truncate64', 'lowrite') LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', made);
    END LOOP;
END $$;

-- Only the migrator makes tables.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO outboxie_migrator, outboxie_writer, outboxie_relay, outboxie_subscriber;
GRANT CREATE ON SCHEMA public TO outboxie_migrator;

-- What holds events back is an open transaction of somebody else. That it is there everybody sees in pg_locks, and nothing can
-- hide it from the relay: without the right to read pg_locks it fails, and publishes nothing. What it is doing, to name it in the
-- log and in `outbox status`, is shown to members of pg_read_all_stats only.
GRANT pg_read_all_stats TO outboxie_relay;
GRANT outboxie_relay TO outboxie_operator;
GRANT outboxie_subscriber TO outboxie_emitter;

DO $$
BEGIN
    IF to_regclass('public.outboxie_service_migrations') IS NULL THEN
        RAISE NOTICE 'There are no tables yet: run "outboxie migrate up" as outboxie_migrator, and then this file again.';
        RETURN;
    END IF;

    -- Every part looks whether the tables that it uses are up to date before it starts. The relay does not know the service's.
    -- The locks, outboxie_engine_migration_lock and outboxie_service_migration_lock, are the migrator's alone.
    GRANT SELECT ON outboxie_engine_migrations TO outboxie_writer, outboxie_relay, outboxie_subscriber;
    GRANT SELECT ON outboxie_service_migrations TO outboxie_writer, outboxie_subscriber;

    -- A writer appends to the log, and can never change or remove what stands in it. It reads where events stand, for
    -- GET /orders/{id}/events and the admin listener. A service that only writes the outbox, with SQL, needs no more of this than
    -- GRANT INSERT, SELECT (position) ON outbox.
    GRANT SELECT, INSERT, UPDATE ON orders TO outboxie_writer;
    GRANT SELECT, INSERT, UPDATE, DELETE ON request_keys, idempotency_keys TO outboxie_writer;
    GRANT SELECT, INSERT ON outbox TO outboxie_writer;
    GRANT SELECT ON leases, outbox_cursor, outbox_parked, outbox_halts, outbox_position_seq TO outboxie_writer;

    -- The relay reads the log, and retention deletes from it. It changes nothing there: the right to update one column is what
    -- Postgres asks of whoever locks a row. It looks whether the log's sequence went back.
    GRANT SELECT, DELETE, UPDATE (recorded_at) ON outbox TO outboxie_relay;
    GRANT SELECT ON outbox_position_seq TO outboxie_relay;
    GRANT SELECT, INSERT, UPDATE ON leases, outbox_cursor TO outboxie_relay;
    GRANT SELECT, INSERT, UPDATE, DELETE ON outbox_parked, outbox_halts TO outboxie_relay;

    -- After the sequence went back an operator sets it, and moves events to new positions: they are deleted and inserted again.
    -- Whoever may delete may lock the table meanwhile.
    GRANT INSERT ON outbox TO outboxie_operator;
    GRANT UPDATE ON outbox_position_seq TO outboxie_operator;

    -- It shows how far each subscriber has come.
    GRANT SELECT ON subscriber_lanes, subscribers, subscriber_types, subscriber_copies TO outboxie_relay;
    GRANT SELECT (subscriber, applied_at) ON inbox TO outboxie_relay;
    GRANT SELECT (subscriber, state) ON dead_letters TO outboxie_relay;

    -- A subscriber knows its checkpoints, its inbox and its effects. It says which types of events it wants. It reads the log, as it reads
    -- the stream: what the stream has lost it takes from there, and before it forgets an event, it looks whether the log can publish the
    -- event again.
    GRANT SELECT, INSERT, UPDATE, DELETE ON subscriber_lanes, subscriber_marks, subscriber_copies, inbox, dead_letters TO outboxie_subscriber;
    GRANT SELECT, INSERT, UPDATE ON customer_totals TO outboxie_subscriber;
    GRANT SELECT, INSERT, UPDATE, DELETE ON subscribers TO outboxie_subscriber;
    GRANT SELECT, INSERT, DELETE ON subscriber_types TO outboxie_subscriber;
    GRANT SELECT ON outbox TO outboxie_subscriber;
    GRANT SELECT (position, event_id, state, stream_sequence) ON outbox_parked TO outboxie_subscriber;
    GRANT SELECT (stream_created, stream_sequence, position, purged_to) ON outbox_cursor TO outboxie_subscriber;

    -- An emitter appends to the log besides. It never changes or removes what stands there.
    GRANT INSERT ON outbox TO outboxie_emitter;
END $$;
