#!/usr/bin/env bash
# Starts and stops the infrastructure of the make targets. If a Docker engine answers, the infrastructure runs in Docker. Else
# `playground infra` runs Postgres and NATS in the background, on the same ports and without Jaeger.
#   infra.sh up                    starts it, unless it runs already
#   infra.sh down                  stops it, and everything that runs on it in Docker; the data is kept
#   infra.sh compose ARGUMENT...   runs `docker compose`, or fails if no engine answers
#   infra.sh key                   makes the key of the tokens that the API in Docker accepts, unless there is one
#   infra.sh during COMMAND...     runs a command against an infrastructure of its own, and removes that afterwards
#   infra.sh clean                 removes bin/ and the data of this folder, unless something uses it
if [[ ${1:-} == during ]]; then
	export COMPOSE_PROJECT_NAME=outboxie-test POSTGRES_PORT=15432 NATS_PORT=14222 INFRA_DATA
	INFRA_DATA=$(mktemp -d)
fi
source "$(dirname "$0")/lib.sh"

# up starts the named services. If another process runs up at the same time, the second one waits.
up() (
	mkdir -p "$INFRA_DATA"
	until ln -s $$ "$INFRA_DATA/starting" 2>/dev/null; do
		kill -0 "$(readlink "$INFRA_DATA/starting")" 2>/dev/null || rm -f "$INFRA_DATA/starting" # left by a process that was killed
		sleep 0.1
	done
	trap 'rm -f "$INFRA_DATA/starting"' EXIT
	if engine; then
		for service; do need_port "$service"; done
		key
		docker compose up --detach --wait "$@"
	else
		echo "No Docker engine ($reason): Postgres and NATS run without it, and there is no Jaeger."
		embed
	fi
)

# need_port ends the script if the ports of a service are taken, unless the service runs already.
need_port() {
	local container
	container=$(docker compose ps --quiet "$1")
	[[ -z $container ]] || return 0
	case $1 in
	postgres) need_free "$POSTGRES_PORT" ;;
	nats) need_free "$NATS_PORT" ;;
	jaeger) need_free "$JAEGER_PORT" "$OTLP_PORT" ;;
	prometheus) need_free "$PROMETHEUS_PORT" ;;
	grafana) need_free "$GRAFANA_PORT" ;;
	esac
}

# key makes the key with which `bin/outboxie token` signs. The containers of compose.distributed.yaml get its public half.
key() {
	AUTH_ISSUER='' AUTH_AUDIENCE='' AUTH_JWKS_URL='' AUTH_JWKS_FILE='' OUTBOXIE_DATA_DIR=.outboxie "$BINARY" token --service make >/dev/null ||
		fail "The key for tokens cannot be made in .outboxie/."
}

embed() {
	embedded || launch
	until grep -q 'are ready' "$INFRA_DATA/log"; do
		kill -0 "$pid" 2>/dev/null || fail "$(<"$INFRA_DATA/log")"
		sleep 0.1
	done
	echo "Postgres and NATS run: process $pid, log and data in $INFRA_DATA."
}

launch() {
	need_free "$POSTGRES_PORT" "$NATS_PORT"
	: >"$INFRA_DATA/log"
	chmod 600 "$INFRA_DATA/log" # it holds passwords
	set -m # gives the process a group of its own, so that Ctrl-C in this terminal does not stop it
	nohup "$PLAYGROUND" infra --data-dir "$INFRA_DATA" --postgres-port "$POSTGRES_PORT" --nats-port "$NATS_PORT" \
		>"$INFRA_DATA/log" 2>&1 </dev/null &
	set +m
	pid=$!
	echo "$pid" >"$INFRA_DATA/pid"
}

# down passes its arguments on to `docker compose down`.
down() {
	if embedded; then
		kill "$pid"
		for ((tenths = 0; tenths < 300; tenths++)); do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.1
		done
		! kill -0 "$pid" 2>/dev/null || fail "Process $pid (playground infra) does not stop within 30 s."
		rm -f "$INFRA_DATA/pid"
		echo "Stopped Postgres and NATS (process $pid)."
	fi
	if engine; then docker compose --profile observe down "$@"; fi
}

# superuser changes the user in the database's address to the superuser, whom tests need. In Docker it is the superuser already.
superuser() {
	embedded || return 0
	database=$(sed -n "s|^[^:]*:[^:]*:[^:]*:outboxie:\(.*\)|postgres://outboxie:\1@127.0.0.1:$POSTGRES_PORT/outboxie?sslmode=disable|p" \
		"$INFRA_DATA/postgres/pgpass")
}

# remove_linked removes the folders to which these links lead. Root's data folder is such a link, if Postgres cannot reach root's
# folders.
remove_linked() {
	local link target
	for link; do
		target=$(readlink "$link") || continue
		[[ $target != /var/lib/outboxie/* ]] || rm -rf "$target"
	done
}

# clean first renames the data folder, in one step. So if rm is interrupted, no program finds a part of the data.
clean() {
	local lock holder
	for lock in .outboxie/*/lock .outboxie/*/*/lock; do
		holder=
		{ read -r holder _ <"$lock"; } 2>/dev/null || true # there is no newline in it, and perhaps no such file
		[[ -z $holder || $(ps -o args= -p "$holder") != *outboxie* ]] ||
			fail "The data in ${lock%/lock} is in use by process $holder: stop it first, with Ctrl-C or \`make infra-down\`."
	done
	remove_linked .outboxie/postgres .outboxie/*/postgres
	rm -rf bin .outboxie.removing
	[[ ! -e .outboxie ]] || mv .outboxie .outboxie.removing
	rm -rf .outboxie.removing
}

# throw_away stops and removes the infrastructure that during started.
throw_away() {
	down --volumes
	remove_linked "$INFRA_DATA/postgres"
	rm -rf "$INFRA_DATA"
}

# addresses prints where to look at the infrastructure.
addresses() {
	printf "\n  export DATABASE_URL='%s' NATS_URL='%s'\n" "$database" "$broker"
	if ! embedded; then
		printf '\n  traces      http://localhost:%s\n' "$JAEGER_PORT"
		if observing; then
			printf '  metrics     http://localhost:%s\n  dashboard   http://localhost:%s\n' "$PROMETHEUS_PORT" "$GRAFANA_PORT"
		else
			printf '  COMPOSE_PROFILES=observe adds Prometheus and Grafana, which watch the containers of `docker compose up`.\n'
		fi
	fi
	printf '\n`make infra-down` stops it.\n'
}

# observing succeeds if the profile observe is wanted.
observing() { [[ ,${COMPOSE_PROFILES:-}, == *,observe,* ]]; }

case ${1:-} in
up)
	services=(postgres nats jaeger)
	if observing; then services+=(prometheus grafana); fi
	up "${services[@]}"
	locate
	addresses
	;;
key) key ;;
down) down ;;
compose)
	engine || fail "This needs a Docker engine, and none answers: $reason"
	exec docker compose "${@:2}"
	;;
during)
	trap throw_away EXIT
	up postgres nats
	locate
	superuser
	shift
	OUTBOXIE_TEST_DATABASE_URL=$database OUTBOXIE_TEST_NATS_URL=$broker "$@"
	;;
clean) clean ;;
*) fail "usage: docker/infra.sh up | down | compose ARGUMENT... | key | during COMMAND... | clean" ;;
esac
