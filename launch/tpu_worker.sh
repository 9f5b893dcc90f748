#!/usr/bin/env bash
# tpu_pod.sh runs this script on each TPU VM of a slice. You need not call it by hand.
#
# tpu_worker.sh install          make a venv with pairjax, its TPU extra and gcsfs, from the source beside this script
# tpu_worker.sh start WORD...    start pairjax WORD... as a detached process of the slice; log in ~/pairjax-run/log
# tpu_worker.sh follow           print the log until the run ends; return its exit code
# tpu_worker.sh failed           print the end of the log if the run of this worker failed first
# tpu_worker.sh stop             tell the run to save and end
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
state=$HOME/pairjax-run
venv=$HOME/pairjax-venv

metadata() {
  curl -sf --retry 6 -H "Metadata-Flavor: Google" \
    "http://${GCE_METADATA_IP:-metadata.google.internal}/computeMetadata/v1/instance/attributes/$1"
}

# slice: sets INDEX, COUNT and FIRST. The list of workers is sorted by number; an entry is a host, or name:id:address.
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
    # The Python of the images is older than pairjax needs, so uv installs one.
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
