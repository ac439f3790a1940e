-- +goose Up

-- Limits for values that no broker, or no index, can take. The sizes are those of internal/domain/outbox/size.go. The value of
-- a plain INSERT is not compressed yet, so pg_column_size is its real size and costs nothing. A payload has four more bytes for
-- its length. INSERT … SELECT may bring a value that another table has compressed; such a value is decompressed to measure it.
-- concat takes any type. So if somebody has changed the type of payload, ALTER TABLE can change it back to json in spite of this
-- constraint. NOT VALID: larger rows that are already there may stay, because the relay parks them without reading them.
ALTER TABLE outbox
    ADD CONSTRAINT outbox_aggregate_type_at_most_255_bytes CHECK (octet_length(aggregate_type) <= 255) NOT VALID,
    ADD CONSTRAINT outbox_aggregate_id_at_most_1024_bytes CHECK (octet_length(aggregate_id) <= 1024) NOT VALID,
    ADD CONSTRAINT outbox_event_type_at_most_255_bytes CHECK (octet_length(event_type) <= 255) NOT VALID,
    ADD CONSTRAINT outbox_subject_at_most_2048_bytes CHECK (octet_length(subject) <= 2048) NOT VALID,
    ADD CONSTRAINT outbox_headers_at_most_64_kib CHECK (pg_column_size(headers) <= 65536
        AND (pg_column_compression(headers) IS NULL OR pg_column_size(headers || '{}') <= 65536)) NOT VALID,
    ADD CONSTRAINT outbox_payload_at_most_64_mib CHECK (pg_column_size(payload) <= 67108864 + 4
        AND (pg_column_compression(payload) IS NULL OR octet_length(concat(payload)) <= 67108864)) NOT VALID;

-- +goose Down
-- Lost: nothing. The table accepts rows again that no broker takes.
ALTER TABLE outbox
    DROP CONSTRAINT outbox_payload_at_most_64_mib,
    DROP CONSTRAINT outbox_headers_at_most_64_kib,
    DROP CONSTRAINT outbox_subject_at_most_2048_bytes,
    DROP CONSTRAINT outbox_event_type_at_most_255_bytes,
    DROP CONSTRAINT outbox_aggregate_id_at_most_1024_bytes,
    DROP CONSTRAINT outbox_aggregate_type_at_most_255_bytes;
