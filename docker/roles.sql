-- The least rights that each part of Outboxie needs in Postgres. Run this file in the database, as a superuser (or as the database's
-- owner with CREATEROLE). Run it once before the first `outboxie migrate up`, which then runs as outboxie_migrator, and after every
-- migration. It may be run any number of times.
--
-- The roles have no password, so nobody can log in as one of them until you give it one (ALTER ROLE … PASSWORD), or let it in
-- by a certificate:
--   outboxie_migrator    migrate
--   outboxie_writer      serve --roles api: everything that changes orders, and any other writer of the outbox
--   outboxie_relay       serve --roles relay, relay
--   outboxie_subscriber  subscribe
--   outboxie_emitter     the same, for a subscriber whose handler emits events: it may append to the outbox
--   outboxie_eraser      erase: it gives a customer's orders a pseudonym, and cannot read keys
--   outboxie_operator    the commands of people who operate the relay and subscribers: outbox …, subscriber …
--
-- The console and the admin listener do what the role of their process may do. A role that serves the console needs the rights of an operator
-- for most of its pages and actions. To grant them to the relay's instances, run: GRANT outboxie_operator TO outboxie_relay.
-- TestConsoleWithLeastPrivilege uses the console with these rights and without them.
-- TestLeastPrivilege does everything with these roles. It also tries everything that each role, and any other role, must be refused.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY ['outboxie_migrator', 'outboxie_writer', 'outboxie_relay', 'outboxie_subscriber', 'outboxie_emitter',
        'outboxie_operator', 'outboxie_eraser'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', name);
        END IF;
    END LOOP;
END $$;

-- Only these seven roles may connect. Nobody may make temporary tables: a temporary table with the name outbox would take the events
-- of its session, and they would vanish with the table.
DO $$
BEGIN
    EXECUTE format('REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO outboxie_migrator, outboxie_writer, outboxie_relay, outboxie_subscriber, '
        'outboxie_emitter, outboxie_operator, outboxie_eraser', current_database());
END $$;

-- Nobody may fill the disk with large objects. By default every role may create them, without any right to a table. Only a superuser
-- can revoke that.
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

-- Only the migrator may make tables.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO outboxie_migrator, outboxie_writer, outboxie_relay, outboxie_subscriber, outboxie_operator, outboxie_eraser;
GRANT CREATE ON SCHEMA public TO outboxie_migrator;

-- In former versions of this file an operator also had all rights of the relay.
DO $$
BEGIN
    IF pg_has_role('outboxie_operator', 'outboxie_relay', 'USAGE') THEN
        REVOKE outboxie_relay FROM outboxie_operator;
    END IF;
END $$;

-- An open transaction of another role delays events. Every role sees in pg_locks that there is such a transaction. Without the right to
-- read pg_locks the relay fails, and publishes nothing. The log and `outbox status` also show the statement of the transaction; only
-- members of pg_read_all_stats see that statement.
GRANT pg_read_all_stats TO outboxie_relay, outboxie_operator;
GRANT outboxie_subscriber TO outboxie_emitter;

DO $$
BEGIN
    IF to_regclass('public.outboxie_service_migrations') IS NULL THEN
        RAISE NOTICE 'There are no tables yet: run "outboxie migrate up" as outboxie_migrator, and then this file again.';
        RETURN;
    END IF;

        -- Before a part starts, it checks that the tables which it uses are up to date. The relay does not know the service's tables.
    -- Only the migrator may use the locks, outboxie_engine_migration_lock and outboxie_service_migration_lock.
    GRANT SELECT ON outboxie_engine_migrations TO outboxie_writer, outboxie_relay, outboxie_subscriber;
    GRANT SELECT ON outboxie_service_migrations TO outboxie_writer, outboxie_subscriber;

        -- A writer appends to the log, and can never change or remove rows of the log. It reads the states of events, for
    -- GET /orders/{id}/events and the admin listener. A service that only writes the outbox with SQL needs only these rights:
    -- GRANT INSERT, SELECT (position) ON outbox.
    GRANT SELECT, INSERT, UPDATE ON orders TO outboxie_writer;
    GRANT SELECT, INSERT, UPDATE, DELETE ON request_keys, idempotency_keys TO outboxie_writer;
    GRANT SELECT, INSERT ON outbox TO outboxie_writer;

        -- A writer makes keys of customers, and seals events with them. It updates no key, but to lock a row, Postgres requires the right to
    -- update a column. A subscriber opens events. An eraser erases keys, and cannot read them.
    GRANT SELECT, INSERT, UPDATE (created_at) ON customer_keys TO outboxie_writer;
    GRANT SELECT (key_id, key, erased_at) ON customer_keys TO outboxie_subscriber;
    GRANT SELECT (key_id, customer_id, created_at), INSERT, UPDATE, DELETE ON customer_keys TO outboxie_eraser;

        -- An eraser finds what a customer left, gives it a pseudonym or deletes it, and discards dead letters. It sees which events the subscribers
    -- have not handled.
    GRANT SELECT (id, customer_id), UPDATE (customer_id, payment_reference, carrier, tracking, cancel_reason, updated_at)
        ON orders TO outboxie_eraser;
    GRANT SELECT, DELETE, UPDATE (created_at) ON request_keys, idempotency_keys TO outboxie_eraser;
    GRANT SELECT, UPDATE (customer_id) ON customer_totals TO outboxie_eraser;
    GRANT SELECT, UPDATE (state, payload, error, headers, _no_handler, due_at, changed_at) ON dead_letters TO outboxie_eraser;
    GRANT SELECT, INSERT ON inbox TO outboxie_eraser;
    GRANT SELECT ON outbox, outbox_parked, subscriber_lanes, subscriber_types TO outboxie_eraser;
    GRANT SELECT ON leases, outbox_cursor, outbox_parked, outbox_halts, outbox_position_seq TO outboxie_writer;

        -- The relay reads the log, and its retention deletes from the log. The relay updates no row there, but to lock a row, Postgres
    -- requires the right to update a column. The relay reads the sequence to check that it did not go back.
    GRANT SELECT, DELETE, UPDATE (recorded_at) ON outbox TO outboxie_relay;
    GRANT SELECT ON outbox_position_seq TO outboxie_relay;
    GRANT SELECT, INSERT, UPDATE ON leases, outbox_cursor TO outboxie_relay;
    GRANT SELECT, INSERT, UPDATE, DELETE ON outbox_parked, outbox_halts TO outboxie_relay;

        -- The relay shows the progress of each subscriber.
    GRANT SELECT ON subscriber_lanes, subscribers, subscriber_types, subscriber_copies TO outboxie_relay;
    GRANT SELECT (subscriber, applied_at) ON inbox TO outboxie_relay;
    GRANT SELECT (subscriber, state) ON dead_letters TO outboxie_relay;

        -- A subscriber keeps its checkpoints, its inbox, its effects, and the types of events that it wants. It also reads the log: it takes
    -- events from there that the stream has lost. And before it forgets an event, it checks whether the log can publish the event again.
    GRANT SELECT, INSERT, UPDATE, DELETE ON subscriber_lanes, subscriber_marks, subscriber_copies, inbox, dead_letters TO outboxie_subscriber;
    GRANT SELECT, INSERT, UPDATE ON customer_totals TO outboxie_subscriber;
    GRANT SELECT, INSERT, UPDATE, DELETE ON subscribers TO outboxie_subscriber;
    GRANT SELECT, INSERT, DELETE ON subscriber_types TO outboxie_subscriber;
    GRANT SELECT ON outbox TO outboxie_subscriber;
    GRANT SELECT (position, event_id, state, stream_sequence) ON outbox_parked TO outboxie_subscriber;
    GRANT SELECT (stream_created, stream_sequence, position, purged_to) ON outbox_cursor TO outboxie_subscriber;

        -- An emitter may also append to the log. It may never change or remove rows there.
    GRANT INSERT ON outbox TO outboxie_emitter;

        -- An operator sees the state of the relay, and adopts: the cursor gets another position. After the sequence of positions went back,
    -- an adoption sets it, and moves events to new positions: rows are deleted and inserted again. The right to delete includes the right
    -- to lock the table meanwhile.
    GRANT SELECT ON leases, outbox_halts TO outboxie_operator;
    GRANT SELECT, INSERT, UPDATE ON outbox_cursor TO outboxie_operator;
    GRANT SELECT, INSERT, DELETE ON outbox TO outboxie_operator;
    GRANT SELECT, UPDATE ON outbox_position_seq TO outboxie_operator;

        -- An operator decides about parked events: the leader redrives them, or they are given up.
    GRANT SELECT, UPDATE (state, changed_at) ON outbox_parked TO outboxie_operator;

        -- An operator pauses, moves and forgets subscribers, and decides about their dead letters. A discarded event gets a row in inbox.
    -- The operator updates no row there, but to lock a row, Postgres requires the right to update a column.
    GRANT SELECT, INSERT, UPDATE, DELETE ON subscribers, subscriber_lanes TO outboxie_operator;
    GRANT SELECT, INSERT, DELETE ON subscriber_marks TO outboxie_operator;
    GRANT SELECT, DELETE ON subscriber_types, subscriber_copies TO outboxie_operator;
    GRANT SELECT, INSERT, DELETE, UPDATE (sequence) ON inbox TO outboxie_operator;
    GRANT SELECT, UPDATE, DELETE ON dead_letters TO outboxie_operator;
END $$;
