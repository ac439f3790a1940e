#!/usr/bin/env bash
# Runs processes against the infrastructure of infra.sh until Ctrl-C, or until one of them ends. Each line that they print
# begins with its process's name.
#   processes.sh serve NAME=PORT...    instances; each one's admin listener is ten ports higher
#   processes.sh subscribe NAME...     subscribers
source "$(dirname "$0")/lib.sh"

names=() pids=()
pipes=$(mktemp -d)

# run NAME ARGUMENT... starts the program with these arguments.
run() {
	local name=$1
	shift
	mkfifo "$pipes/$name"
	while IFS= read -r line; do printf '%s | %s\n' "$name" "$line"; done <"$pipes/$name" &
	INSTANCE_ID=$name "$BINARY" "$@" >"$pipes/$name" 2>&1 &
	names+=("$name") pids+=($!)
}

stop() {
	((${#pids[@]} == 0)) || kill "${pids[@]}" 2>/dev/null || true
	wait
	rm -rf "$pipes"
}

watch() {
	local i
	while sleep 0.2; do
		for i in "${!pids[@]}"; do
			kill -0 "${pids[i]}" 2>/dev/null || fail "${names[i]} ended: the others are stopped."
		done
	done
}

locate
export DATABASE_URL=$database NATS_URL=$broker
if listening "$OTLP_PORT"; then export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:$OTLP_PORT; fi
trap stop EXIT
trap 'exit 0' INT TERM
case ${1:-} in
serve)
	for instance in "${@:2}"; do need_free "${instance#*=}" "$((${instance#*=} + 10))"; done
	for instance in "${@:2}"; do
		run "${instance%=*}" serve --http-addr "127.0.0.1:${instance#*=}" --admin-addr "127.0.0.1:$((${instance#*=} + 10))"
	done
	;;
subscribe)
	for name in "${@:2}"; do run "$name" subscribe --id "$name"; done
	;;
*) fail "usage: docker/processes.sh serve NAME=PORT... | subscribe NAME..." ;;
esac
watch
