#!/usr/bin/env bash
# Times what is done with containers between their start and their end, beside podman and docker if they are there and
# work (DOCKER_HOST is honoured; BENCH_PEERS= leaves them out): life.sh [RUNS [CONTAINERS [LOG_MB]]]. Prints a table in Markdown: medians in milliseconds.
# Every engine does the same with the same image, one after the other in each round.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
runs=${1:-20} most=${2:-1000} log=${3:-1000}
[ "$(id -u)" = 0 ] || { echo "life.sh: needs root" >&2; exit 1; }
make -s build
work=$(mktemp -d)
export BERTH_ROOT=$work/root BERTH_STATE=$work/state PATH=$PWD/bin:$PATH
engines=(berth)
clean() {
	for e in "${engines[@]}"; do
		$e ps -aq --no-trunc | xargs -r "$e" rm -f >/dev/null 2>&1 || true
		[ "$e" = berth ] || "$e" rmi -f berth-bench >/dev/null 2>&1 || true
	done
	rm -rf "$work"
}
trap clean EXIT

berth run --rm --net none /bin/true
berth tag busybox berth-bench
for peer in ${BENCH_PEERS-podman docker}; do
	if command -v $peer >/dev/null && tar -C "$(dirname "$(ls -d "$work"/root/layers/*/fs/bin)")" -c . | $peer import - berth-bench >/dev/null 2>&1 &&
		$peer run --rm --network none berth-bench /bin/true >/dev/null 2>&1; then
		engines+=($peer)
	fi
done

# timed NAME ENGINE COMMAND...: once, noted in microseconds.
timed() {
	local name=$1 e=$2 begin=${EPOCHREALTIME/./}
	shift 2
	"$e" "$@" >/dev/null 2>"$work/err" || { echo "life.sh: $e $* fails: $(cat "$work/err")" >&2; exit 1; }
	echo "$((${EPOCHREALTIME/./} - begin)) $name|$e" >>"$work/times"
}
# start ENGINE FROM TO: idle containers of these numbers, four at a time.
start() { seq -f 'n%.0f' "$2" "$3" | xargs -P 4 -I NAME "$1" run -d --network none --name NAME --stop-signal SIGKILL berth-bench /bin/sleep 36000 >/dev/null 2>&1; }
# list ROW: ps of each engine, some times.
list() {
	for ((i = 0; i < runs; i++)); do
		for e in "${engines[@]}"; do timed "$1" "$e" ps; done
	done
}

list "ps, none runs"
for ((i = 0; i < runs; i++)); do
	for e in "${engines[@]}"; do
		timed "run -d" "$e" run -d --network none --name one --stop-signal SIGKILL berth-bench /bin/sleep 36000
		timed "exec" "$e" exec one /bin/true
		timed "stop (a program that ends at once)" "$e" stop one
		timed "rm" "$e" rm one
	done
done
for e in "${engines[@]}"; do start "$e" 1 100; done
sleep 5 # so that what rests when nothing comes rests
for e in "${engines[@]}"; do
	case $e in
	berth) pids=$(sed -n 's/.*"monitor": \([0-9]*\),/\1/p' "$work"/state/containers/*/status.json) ;;
	podman) pids=$(pgrep -x conmon) ;;
	docker) pids=$(pgrep -f '^[^ ]*containerd-shim') ;;
	esac
	for p in $pids; do cat "/proc/$p/smaps_rollup" 2>/dev/null; done | awk -v e="$e" '/^Pss:/ { n++; p += $2 } END { if (n) printf "%d memory of an idle container, KiB (PSS, without daemons)|%s\n", 1000 * p / n, e }' >>"$work/times"
done
list "ps, 100 run"
for e in "${engines[@]}"; do timed "rm -f of 100" "$e" rm -f $(seq -f 'n%.0f' 100); done
if [ "$most" -gt 100 ]; then
	for e in "${engines[@]}"; do start "$e" 1 "$most"; done
	list "ps, $most run"
	for e in "${engines[@]}"; do $e ps -q | xargs -n 100 "$e" rm -f >/dev/null; done
fi
for e in "${engines[@]}"; do # lines of 100 bytes; the last one comes later
	option=()
	[ "$e" != berth ] || option=(--log-opt max-size=-1)
	$e run --network none --name log "${option[@]}" berth-bench /bin/sh -c "yes $(printf %099d 0) | head -c ${log}000000; sleep 3; echo last" >/dev/null
	since=$(date -u -d '2 seconds ago' +%FT%TZ)
	for ((i = 0; i < 5; i++)); do timed "logs --since the last line of $log MB" "$e" logs --since "$since" log; done
	$e rm -f log >/dev/null
done

sort -n "$work/times" | awk -v engines="${engines[*]}" '
	{ t = $1; $1 = ""; key = substr($0, 2); v[key, ++n[key]] = t; split(key, k, "|"); if (!(k[1] in seen)) { seen[k[1]] = 1; rows[++count] = k[1] } }
	END {
		m = split(engines, e, " ")
		head = "| what |"; rule = "|---|"
		for (i = 1; i <= m; i++) { head = head " " e[i] " |"; rule = rule "---:|" }
		print head "\n" rule
		for (r = 1; r <= count; r++) {
			line = "| " rows[r] " |"
			for (i = 1; i <= m; i++) { key = rows[r] "|" e[i]; line = line (n[key] ? sprintf(" %.1f |", v[key, int((n[key] + 1) / 2)] / 1000) : " – |") }
			print line
		}
	}'
