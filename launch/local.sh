#!/usr/bin/env bash
# Starts one run as N processes on this machine.
#
#   launch/local.sh --processes 2 -- train experiments/quickstart.py
#
# --processes N   number of processes (default 2)
# --devices D     simulated CPU devices of each process (default: the machine's own devices)
# --tries T       largest number of starts; after a crash the next start resumes (default 1)
# --logs DIR      folder for the output of each process (default: a new folder in TMPDIR)
# --dry-run       print the commands and run nothing
# PAIRJAX         the command (default: pairjax)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

processes=2 devices="" tries=1 logs="" dry=""
while (($#)); do
  case $1 in
    --processes) processes=$(need "${2-}" "$1") && shift 2 ;;
    --devices) devices=$(need "${2-}" "$1") && shift 2 ;;
    --tries) tries=$(need "${2-}" "$1") && shift 2 ;;
    --logs) logs=$(need "${2-}" "$1") && shift 2 ;;
    --dry-run) dry=1 && shift ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0" && exit 0 ;;
    --) shift && break ;;
    *) die "$1: no such option; pairjax's own come after --" ;;
  esac
done
whole "$processes" --processes
whole "$tries" --tries
[[ -z $devices ]] || whole "$devices" --devices
(($#)) || die "nothing to run; expected -- train experiments/X.py [options]"
read -ra pairjax <<<"${PAIRJAX:-pairjax}"

free_port() {
  local port
  while true; do
    port=$((20000 + RANDOM % 20000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
  done
  printf '%s' "$port"
}

# environment INDEX PORT: sets VARIABLES to the environment of one process.
environment() {
  VARIABLES=("JAX_COORDINATOR_ADDRESS=127.0.0.1:$2" "JAX_NUM_PROCESSES=$processes" "JAX_PROCESS_ID=$1")
  if [[ -n $devices ]]; then
    VARIABLES+=(JAX_PLATFORMS=cpu "XLA_FLAGS=--xla_force_host_platform_device_count=$devices")
  fi
}

if [[ -n $dry ]]; then
  for ((i = 0; i < processes; i++)); do
    environment "$i" PORT
    quoted env "${VARIABLES[@]}" "${pairjax[@]}" "$@"
    printf '\n'
  done
  exit 0
fi

[[ -n $logs ]] || logs=$(mktemp -d "${TMPDIR:-/tmp}/pairjax-local-XXXXXX")
mkdir -p "$logs"
say "output of each process in $logs/process-*.log; process 0 follows"
pids=()
trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' TERM INT

# wait_all: sets CODES to the exit codes of all processes. A signal may interrupt `wait`, so it repeats.
wait_all() {
  CODES=()
  local pid code
  for pid in "${pids[@]}"; do
    while true; do
      code=0
      wait "$pid" || code=$?
      kill -0 "$pid" 2>/dev/null || break
    done
    CODES+=("$code")
  done
}

# one_try WORD...: runs all processes. Sets CODE to the exit code of the one that failed first: not 75, with which a
# process ends when another was lost.
one_try() {
  local port follower i
  port=$(free_port)
  pids=()
  for ((i = 0; i < processes; i++)); do
    environment "$i" "$port"
    env "${VARIABLES[@]}" "${pairjax[@]}" "$@" >"$logs/process-$i.log" 2>&1 &
    pids+=($!)
  done
  tail -n +1 -f "$logs/process-0.log" --pid="${pids[0]}" >&2 &
  follower=$!
  wait_all
  wait "$follower" || true
  CODE=0
  for i in "${!CODES[@]}"; do
    if ((CODES[i] != 0)) && ((CODE == 0 || CODE == 75)); then CODE=${CODES[i]}; fi
  done
  for i in "${!CODES[@]}"; do
    case ${CODES[i]} in
      0 | 75 | 130 | 143) ;;
      *)
        say "process $i ended with code ${CODES[i]}"
        ((i == 0)) || show_log "$logs/process-$i.log" "process $i"
        ;;
    esac
  done
}

run_tries "$tries" "$logs/process-0.log" "$@"
exit "$CODE"
