#!/usr/bin/env bash
# The infrastructure of the make targets, in Docker if an engine answers; else Postgres and NATS, without Jaeger, are those
# of `outboxie infra` in the background, on the same ports.
#   infra.sh up                    starts it, unless it runs already
#   infra.sh down                  stops it, and whatever runs on it in Docker; the data is kept
#   infra.sh compose ARGUMENT...   `docker compose`, or words that there is none
#   infra.sh during COMMAND...     runs a command against one of its own, which is thrown away
if [[ ${1:-} == during ]]; then
	export COMPOSE_PROJECT_NAME=outboxie-test POSTGRES_PORT=15432 NATS_PORT=14222 INFRA_DATA
	INFRA_DATA=$(mktemp -d)
fi
source "$(dirname "$0")/lib.sh"

# up starts the named services. Whoever wants the same meanwhile waits.
up() (
	mkdir -p "$INFRA_DATA"
	until ln -s $$ "$INFRA_DATA/starting" 2>/dev/null; do
		kill -0 "$(readlink "$INFRA_DATA/starting")" 2>/dev/null || rm -f "$INFRA_DATA/starting" # of one that was killed
		sleep 0.1
	done
	trap 'rm -f "$INFRA_DATA/starting"' EXIT
	if engine; then
		for service; do need_port "$service"; done
		docker compose up --detach --wait "$@"
	else
		echo "No Docker engine ($reason): Postgres and NATS run without it, and there is no Jaeger."
		embed
	fi
)

# need_port makes sure that a service can have its ports, unless it runs already.
need_port() {
	local container
	container=$(docker compose ps --quiet "$1")
	[[ -z $container ]] || return 0
	case $1 in
	postgres) need_free "$POSTGRES_PORT" ;;
	nats) need_free "$NATS_PORT" ;;
	jaeger) need_free "$JAEGER_PORT" "$OTLP_PORT" ;;
	esac
}

embed() {
	embedded || launch
	until grep -q 'are ready' "$INFRA_DATA/log"; do
		kill -0 "$pid" 2>/dev/null || fail "$(<"$INFRA_DATA/log")"
		sleep 0.1
	done
	echo "They run: process $pid, log and data in $INFRA_DATA."
}

launch() {
	need_free "$POSTGRES_PORT" "$NATS_PORT"
	set -m # a process group of its own: Ctrl-C in this terminal is not for it
	nohup "$BINARY" infra --data-dir "$INFRA_DATA" --postgres-port "$POSTGRES_PORT" --nats-port "$NATS_PORT" \
		>"$INFRA_DATA/log" 2>&1 </dev/null &
	set +m
	pid=$!
	echo "$pid" >"$INFRA_DATA/pid"
}

# embedded succeeds if the process that launch started still runs; then pid is its id.
embedded() {
	pid=$(cat "$INFRA_DATA/pid" 2>/dev/null) && [[ $(ps -o args= -p "$pid") == *" infra --data-dir $INFRA_DATA "* ]]
}

# down passes its arguments on to `docker compose down`.
down() {
	if embedded; then
		kill "$pid"
		for ((tenths = 0; tenths < 300; tenths++)); do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.1
		done
		! kill -0 "$pid" 2>/dev/null || fail "Process $pid (outboxie infra) does not stop within 30 s."
		rm -f "$INFRA_DATA/pid"
		echo "Stopped Postgres and NATS (process $pid)."
	fi
	if engine; then docker compose down "$@"; fi
}

# throw_away ends what during started.
throw_away() {
	down --volumes
	rm -rf "$INFRA_DATA"
}

case ${1:-} in
up)
	up postgres nats jaeger
	printf "\n  export DATABASE_URL='%s' NATS_URL='%s'\n\n\`make infra-down\` stops it.\n" "$database" "$broker"
	;;
down) down ;;
compose)
	engine || fail "This needs a Docker engine, and none answers: $reason"
	exec docker compose "${@:2}"
	;;
during)
	trap throw_away EXIT
	up postgres nats
	shift
	OUTBOXIE_TEST_DATABASE_URL=$database OUTBOXIE_TEST_NATS_URL=$broker "$@"
	;;
*) fail "usage: docker/infra.sh up | down | compose ARGUMENT... | during COMMAND..." ;;
esac
