#!/usr/bin/env bash
# What tpu_pod.sh runs on each TPU VM of a slice; nobody needs to call it by hand.
#
# tpu_worker.sh install          a venv with pairjax, its TPU extra and gcsfs, from the source beside this script
# tpu_worker.sh start WORD...    pairjax WORD... as this slice's process, detached; its log in ~/pairjax-run/log
# tpu_worker.sh follow           the log as it grows, until the run ends; its exit code
# tpu_worker.sh failed           the end of the log, where this worker's run failed of itself
# tpu_worker.sh stop             tells the run to save and end
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
state=$HOME/pairjax-run
venv=$HOME/pairjax-venv

metadata() {
  curl -sf --retry 6 -H "Metadata-Flavor: Google" \
    "http://${GCE_METADATA_IP:-metadata.google.internal}/computeMetadata/v1/instance/attributes/$1"
}

# The workers' list is sorted by number; an entry is a host, or name:id:address.
slice() {
  local ends first
  INDEX=$(metadata agent-worker-number)
  ends=$(metadata worker-network-endpoints)
  COUNT=$(tr , '\n' <<<"$ends" | grep -c .)
  first=${ends%%,*}
  FIRST=${first##*:}
}

case ${1-} in
  install)
    # The images' own Python is older than pairjax needs: uv brings one.
    python3 -m pip install --quiet --user uv
    uv="$(python3 -m site --user-base)/bin/uv"
    [[ -x $venv/bin/python ]] || "$uv" venv --quiet --python ">=3.11" "$venv"
    "$uv" pip install --quiet --python "$venv/bin/python" ".[tpu,gcs]"
    "$uv" pip install --quiet --python "$venv/bin/python" --no-deps --require-hashes -r requirements-encoder.lock
    ;;
  start)
    shift
    mkdir -p "$state"
    rm -f "$state/code"
    slice
    if ((COUNT > 1)); then
      export JAX_COORDINATOR_ADDRESS="$FIRST:8482" JAX_NUM_PROCESSES="$COUNT" JAX_PROCESS_ID="$INDEX"
    fi
    # shellcheck disable=SC2016 # expanded in the child
    nohup setsid bash -c 'code=0
      "$0" "${@:2}" >"$1/log" 2>&1 & echo $! >"$1/pid"
      wait $! || code=$?
      echo $code >"$1/code"' "$venv/bin/pairjax" "$state" "$@" >/dev/null 2>&1 &
    ;;
  follow)
    for ((i = 0; i < 50; i++)); do
      [[ -s $state/pid ]] && break
      sleep 0.2
    done
    tail -n +1 -F --pid="$(cat "$state/pid")" "$state/log" 2>/dev/null || true
    for ((i = 0; i < 50; i++)); do
      if [[ -s $state/code ]]; then exit "$(cat "$state/code")"; fi
      sleep 0.2
    done
    exit 1
    ;;
  failed)
    code=$(cat "$state/code" 2>/dev/null || echo unknown)
    case $code in
      0 | 75 | 130 | 143) ;;
      *)
        printf -- '---- worker %s ended with code %s; the last lines of its log\n' "$(metadata agent-worker-number)" "$code"
        tail -n 40 "$state/log"
        ;;
    esac
    ;;
  stop) kill -TERM "$(cat "$state/pid")" ;;
  *)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
