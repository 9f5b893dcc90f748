#!/usr/bin/env bash
# Starts one run on a Cloud TPU slice: requests or reuses the slice, installs, runs on all workers, follows the log, and
# fetches the run folder.
#
#   bash launch/tpu_pod.sh --tpu my-tpu --zone us-west4-a --spot -- train experiments/quickstart.py
#
# --tpu NAME        name of the TPU VM (required); its queued resource has the same name
# --zone ZONE       zone of the TPU VM (required)
# --project NAME    Google Cloud project (default: that of gcloud)
# --type TYPE       accelerator type (default v5litepod-16)
# --version IMAGE   runtime version (default v2-alpha-tpuv5-lite)
# --spot            use a Spot VM: cheaper, but it can be pre-empted; the run then continues on a new one
# --setup COMMAND   command for every worker before the run, for example to mount a shared file system
# --tries T         largest number of starts, after crashes and pre-emptions together (default 5)
# --wait MINUTES    longest time that a request may queue (default 120)
# --poll SECONDS    time between two checks of its state (default 20)
# --fetch DIR       folder to copy the run folder to (default: .); '' copies nothing
# --price USD       price of one chip for one hour; prints what the run cost
# --delete          delete the TPU at the end, also after a failure
# --dry-run         print the commands and run nothing
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/lib.sh"

tpu="" zone="" project="" type=v5litepod-16 version=v2-alpha-tpuv5-lite spot="" setup="" tries=5 wait=120 poll=20
fetch=. price="" delete="" dry=""
while (($#)); do
  case $1 in
    --tpu) tpu=$(need "${2-}" "$1") && shift 2 ;;
    --zone) zone=$(need "${2-}" "$1") && shift 2 ;;
    --project) project=$(need "${2-}" "$1") && shift 2 ;;
    --type) type=$(need "${2-}" "$1") && shift 2 ;;
    --version) version=$(need "${2-}" "$1") && shift 2 ;;
    --spot) spot=1 && shift ;;
    --setup) setup=$(need "${2-}" "$1") && shift 2 ;;
    --tries) tries=$(need "${2-}" "$1") && shift 2 ;;
    --wait) wait=$(need "${2-}" "$1") && shift 2 ;;
    --poll) poll=$(need "${2-}" "$1") && shift 2 ;;
    --fetch) (($# > 1)) || die "--fetch needs a value" && fetch=$2 && shift 2 ;;
    --price) price=$(need "${2-}" "$1") && shift 2 ;;
    --delete) delete=1 && shift ;;
    --dry-run) dry=1 && shift ;;
    -h | --help) sed -n '2,21s/^# \{0,1\}//p' "$0" && exit 0 ;;
    --) shift && break ;;
    *) die "$1: no such option; pairjax's own come after --" ;;
  esac
done
[[ -n $tpu ]] || die "--tpu NAME is missing"
[[ -n $zone ]] || die "--zone ZONE is missing"
[[ $tpu =~ ^[a-z]([-a-z0-9]{0,60}[a-z0-9])?$ ]] || die "--tpu $tpu: expected lower-case letters, digits and hyphens"
whole "$tries" --tries
whole "$wait" --wait
[[ $poll =~ ^[0-9]+$ ]] || die "--poll $poll: expected whole seconds"
[[ -z $price || $price =~ ^[0-9]+([.][0-9]+)?$ ]] || die "--price $price: expected a number"
(($#)) || die "nothing to run; expected -- train experiments/X.py [options]"

where=("--zone=$zone")
[[ -z $project ]] || where+=("--project=$project")

# run WORD...: runs the command, or prints it with --dry-run.
run() {
  if [[ -n $dry ]]; then
    quoted "$@"
    printf '\n'
  else
    "$@"
  fi
}

vm() { run gcloud compute tpus tpu-vm "$1" "$tpu" "${where[@]}" "${@:2}"; }
queue() { run gcloud compute tpus queued-resources "$1" "$tpu" "${where[@]}" "${@:2}"; }
copy() { run gcloud compute tpus tpu-vm scp "$@" "${where[@]}"; }
worker() { vm ssh "--worker=$1" "--command=bash pairjax/launch/tpu_worker.sh $(quoted "${@:2}")"; }

# state_of KIND FIELD: prints the state that gcloud reports, or MISSING. Fails on any other error, with gcloud's message.
state_of() {
  local said error
  error=$(mktemp)
  if said=$(gcloud compute tpus "$1" describe "$tpu" "${where[@]}" "--format=value($2)" 2>"$error"); then
    printf '%s' "${said:-UNKNOWN}"
  elif grep -qiE 'NOT_FOUND|not found' "$error"; then
    printf 'MISSING'
  else
    cat "$error" >&2
    rm -f "$error"
    return 1
  fi
  rm -f "$error"
}

request() {
  local words=("--node-id=$tpu" "--accelerator-type=$type" "--runtime-version=$version")
  [[ -z $spot ]] || words+=(--spot)
  queue create "${words[@]}"
}

forget() { queue delete --force --quiet; }

# acquire: waits for a READY TPU VM, an existing or a new one, for at most --wait minutes.
acquire() {
  local end=$((SECONDS + wait * 60)) node request_state asked=0
  if [[ -n $dry ]]; then
    request
    printf '# until the queued resource is ACTIVE and the TPU VM READY, at most %s minutes:\n' "$wait"
    queue describe '--format=value(state.state)'
    return
  fi
  while true; do
    node=$(state_of tpu-vm state) || die "gcloud cannot describe $tpu"
    [[ $node != READY ]] || return 0
    request_state=$(state_of queued-resources state.state) || die "gcloud cannot describe the request of $tpu"
    case $node:$request_state in
      PREEMPTED:* | TERMINATED:* | *:SUSPENDED | *:FAILED)
        if [[ $request_state == FAILED ]] && ((asked)); then
          gcloud compute tpus queued-resources describe "$tpu" "${where[@]}" >&2 || true
          die "the request for $tpu FAILED: see above (quota, or a type that the zone lacks)"
        fi
        say "$tpu is $node, its request $request_state: asking anew"
        if [[ $request_state == MISSING ]]; then vm delete --quiet; else forget; fi
        ;;
      MISSING:MISSING) request && asked=1 ;;
      *) say "$tpu is $node, its request $request_state" ;;
    esac
    ((SECONDS < end)) || die "$tpu was not READY within $wait minutes"
    sleep "$poll"
  done
}

install() {
  local archive=pairjax-source.tar.gz
  run tar -czf "${TMPDIR:-/tmp}/$archive" -C "$here/.." pyproject.toml README.md LICENSE \
    requirements-encoder.lock pairjax experiments launch
  copy "${TMPDIR:-/tmp}/$archive" "$tpu:$archive" --worker=all || return 1
  vm ssh --worker=all "--command=mkdir -p pairjax && tar -xzf $archive -C pairjax" || return 1
  worker all install || return 1
  [[ -z $setup ]] || vm ssh --worker=all "--command=$setup"
}

# one_try WORD...: sets CODE to the exit code of the run, or to 74 if the machines failed and not the run.
one_try() {
  CODE=0
  acquire
  install || { CODE=74 && return; }
  worker all start "$@" || { CODE=74 && return; }
  while true; do
    CODE=0
    worker 0 follow | tee "$seen" || CODE=$?
    [[ -z $dry ]] || return 0
    # 255 is the code of ssh itself: the connection broke, perhaps because the TPU was pre-empted.
    ((CODE == 255)) || break
    [[ $(state_of tpu-vm state || true) == READY ]] || { CODE=74 && return; }
    say "the connection broke and $tpu is READY: following again"
    sleep "$poll"
  done
  case $CODE in
    0 | 130 | 143) ;;
    *) worker all failed >&2 || true ;;
  esac
}

# run_folder WORD...: prints the last --run.dir of the command line, or nothing.
run_folder() {
  local previous="" word found=""
  for word in "$@"; do
    [[ $previous != --run.dir ]] || found=$word
    [[ $word != --run.dir=* ]] || found=${word#--run.dir=}
    previous=$word
  done
  printf '%s' "$found"
}

finish() {
  local code=$1 folder
  shift
  folder=$(run_folder "$@")
  # The workers run in ~/pairjax; without --run.dir a run is below runs/.
  folder=${folder:-runs}
  [[ $folder == /* || $folder == gs://* ]] || folder=pairjax/$folder
  if [[ -n $fetch && $folder == gs://* ]]; then
    run gcloud storage cp --recursive "$folder" "$fetch" || say "$folder could not be fetched"
  elif [[ -n $fetch ]]; then
    copy --recurse "$tpu:$folder" "$fetch" --worker=0 || say "$folder could not be fetched"
  fi
  if [[ -n $delete ]]; then
    forget || say "$tpu could not be deleted: delete it by hand, it costs money"
  elif [[ -z $dry ]]; then
    say "$tpu is still there and costs money; delete it: gcloud compute tpus queued-resources delete $tpu ${where[*]} --force"
  fi
  if [[ -n $price && -z $dry ]]; then
    local chips=${type##*-}
    # In the types v2 to v4 and v5p the number counts cores, two a chip; in v5litepod and v6e it counts chips.
    [[ $type == v5litepod-* || $type == v6e-* ]] || chips=$((chips / 2))
    say "$(awk -v s="$SECONDS" -v c="$chips" -v p="$price" \
      'BEGIN { printf "%.0f minutes on %d chips at %s USD an hour each: %.2f USD, waiting included", s / 60, c, p, s / 3600 * c * p }')"
  fi
  exit "$code"
}

trap 'say "stopped; the run goes on at $tpu. Stop it: gcloud compute tpus tpu-vm ssh $tpu ${where[*]} --worker=0 --command=\"bash pairjax/launch/tpu_worker.sh stop\""; exit 130' INT
[[ -n $dry ]] || command -v gcloud >/dev/null || die "gcloud: not found; see https://cloud.google.com/sdk/docs/install"
seen=$(mktemp)
trap 'rm -f "$seen"' EXIT
run_tries "$tries" "$seen" "$@"
finish "$CODE" "$@"
