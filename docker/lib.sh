# shellcheck shell=bash
# Functions and variables for the scripts of this folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Paths and ports. `make help` lists the variables that may be set.
: "${BINARY:=bin/outboxie}" "${PLAYGROUND:=$(dirname "$BINARY")/playground}" "${INFRA_DATA:=.outboxie/infra}"
export POSTGRES_PORT=${POSTGRES_PORT:-5432} NATS_PORT=${NATS_PORT:-4222} JAEGER_PORT=${JAEGER_PORT:-16686} OTLP_PORT=${OTLP_PORT:-4318}
export PROMETHEUS_PORT=${PROMETHEUS_PORT:-9090} GRAFANA_PORT=${GRAFANA_PORT:-3000}
# The addresses in Docker. Without Docker, locate replaces them.
database="postgres://outboxie:outboxie@127.0.0.1:$POSTGRES_PORT/outboxie?sslmode=disable"
broker="nats://127.0.0.1:$NATS_PORT"

fail() {
	printf '%s\n' "$*" >&2
	exit 1
}

# engine succeeds if a Docker engine answers. Else the variable reason has the reason. If the engine's Compose is missing or does not
# know `include`, engine ends the script.
engine() {
	local version major minor
	reason=
	if ! command -v docker >/dev/null; then
		reason="docker is not installed"
		return 1
	fi
	if ! reason=$(docker version --format '{{.Server.Version}}' 2>&1 >/dev/null); then
		reason=${reason%%$'\n'*}
		return 1
	fi
	version=$(docker compose version --short 2>/dev/null) ||
		fail "A Docker engine answers, but there is no \`docker compose\`: install the Compose plugin, version 2.20 or newer."
	IFS=. read -r major minor _ <<<"${version#v}"
	((major > 2 || major == 2 && minor >= 20)) ||
		fail "Docker Compose is version $version; the files in docker/ need 2.20 or newer."
}

# embedded succeeds if `playground infra` still runs in the background. Then the variable pid has its process id.
embedded() {
	pid=$(cat "$INFRA_DATA/pid" 2>/dev/null) && [[ $(ps -o args= -p "$pid") == *" infra --data-dir $INFRA_DATA "* ]]
}

# locate puts the addresses of `playground infra` into the variables database and broker, if `playground infra` runs. Each data
# folder has passwords of its own. `playground infra` has printed them into the log file, which only this user can read.
locate() {
	local printed
	embedded || return 0
	printed=$(sed -n "s/^  export DATABASE_URL='\([^']*\)' NATS_URL='\([^']*\)'$/\1 \2/p" "$INFRA_DATA/log")
	[[ $printed ]] || fail "$INFRA_DATA/log does not say where Postgres and NATS are: \`make infra-down\`, and start them again."
	database=${printed% *} broker=${printed#* }
}

listening() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# owner prints which process listens on a port, if this user may know it.
owner() {
	local who
	who=$(docker ps --filter "publish=$1" --format 'the container {{.Names}}' 2>/dev/null | head -n 1) || true
	[[ $who ]] || who=$(lsof +c 0 -nP -iTCP:"$1" -sTCP:LISTEN 2>/dev/null | awk 'NR == 2 { print $1 ", process " $2 }') || true
	[[ $who ]] || who=$(ss -Hltnp "sport = :$1" 2>/dev/null | awk -F '[",=]' 'NR == 1 && $4 == "pid" { print $2 ", process " $5 }') || true
	printf '%s\n' "${who:-a process that cannot be named}"
}

# need_free PORT... ends the script if a process listens on one of the ports, and names all ports that are taken.
need_free() {
	local port taken=
	for port; do
		if listening "$port"; then
			printf 'Port %s is taken by %s.\n' "$port" "$(owner "$port")" >&2
			taken=yes
		fi
	done
	[[ -z $taken ]] || fail "Stop what listens there. The infrastructure can have other ports: \`make help\` names the variables."
}
