#!/usr/bin/env bash
# Prints the path of a Jaeger to run. It takes the one that JAEGER_BIN names. Otherwise, if a Docker engine answers, it takes
# one from the image. Otherwise it builds one from its Go module, without the web pages, which takes minutes. It keeps the
# last two in a cache.
set -euo pipefail
version=2.13.0 module=github.com/jaegertracing/jaeger module_version=v1.76.0 # the module's releases have numbers of their own
say() { echo "jaeger: $*" >&2; }
works() { [ -x "$1" ] && "$1" version >/dev/null 2>&1; }

if [ -n "${JAEGER_BIN:-}" ]; then
	given=$(command -v -- "$JAEGER_BIN") && works "$given" || { say "JAEGER_BIN is $JAEGER_BIN, which is no Jaeger that runs here"; exit 1; }
	echo "$(cd "$(dirname "$given")" && pwd)/$(basename "$given")" # the tests run in another folder
	exit
fi
cache=${XDG_CACHE_HOME:-$HOME/.cache}/outboxie
binary=$cache/jaeger-$version
if works "$binary"; then
	echo "$binary"
	exit
fi
mkdir -p "$cache"
work=$(mktemp -d "$cache/jaeger.XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

# A Linux binary is of use only on Linux.
from_image() {
	local image=jaegertracing/jaeger:$version container
	[ "$(uname -s)" = Linux ] && docker info >/dev/null 2>&1 || return 1
	docker image inspect "$image" >/dev/null 2>&1 || docker pull -q "$image" >&2 || return 1
	container=$(docker create "$image") || return 1
	docker cp "$container:$(docker inspect -f '{{index .Config.Entrypoint 0}}' "$image")" "$work/jaeger" >&2 || true
	docker rm "$container" >/dev/null
	works "$work/jaeger" || return 1
	say "taken from $image"
}

# Jaeger cannot be installed by `go install`, because its go.mod replaces modules.
from_module() {
	local source
	say "building $module_version; this takes minutes when nothing is cached"
	source=$(cd "$work" && go mod download -json "$module@$module_version" | sed -n 's/^.*"Dir": "\(.*\)",*$/\1/p')
	cp -R "$source" "$work/source"
	chmod -R u+w "$work/source"
	(cd "$work/source" && CGO_ENABLED=0 go build -trimpath \
		-ldflags="-s -w -X $module/internal/version.latestVersion=$module_version" -o "$work/jaeger" ./cmd/jaeger) >&2
}

from_image || from_module
mv "$work/jaeger" "$binary"
echo "$binary"
