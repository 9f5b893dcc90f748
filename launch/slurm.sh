#!/usr/bin/env bash
# Starts one run on the GPU nodes of a Slurm cluster, one process a node, in an allocation (salloc, sbatch) or a new one.
#
#   launch/slurm.sh --nodes 2 --gpus 8 -- train experiments/quickstart.py --run.dir /shared/runs/q
#
# --nodes N       number of nodes, and so of processes (default 1)
# --gpus G        GPUs of each node (default 1)
# --tries T       largest number of starts; after a crash, a lost node or a pre-emption the next start resumes (default 3)
# --logs DIR      folder for the output of each process (default: ./slurm-logs)
# --srun WORD     one more argument of srun (--srun --partition=gpu); can be repeated
# --dry-run       print the commands and run nothing
# PAIRJAX         the command on the nodes (default: pairjax)
# The run folder must be on a file system that all nodes share.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

nodes=1 gpus=1 tries=3 logs=slurm-logs dry="" more=()
while (($#)); do
  case $1 in
    --nodes) nodes=$(need "${2-}" "$1") && shift 2 ;;
    --gpus) gpus=$(need "${2-}" "$1") && shift 2 ;;
    --tries) tries=$(need "${2-}" "$1") && shift 2 ;;
    --logs) logs=$(need "${2-}" "$1") && shift 2 ;;
    --srun) more+=("$(need "${2-}" "$1")") && shift 2 ;;
    --dry-run) dry=1 && shift ;;
    -h | --help) sed -n '2,14s/^# \{0,1\}//p' "$0" && exit 0 ;;
    --) shift && break ;;
    *) die "$1: no such option; pairjax's own come after --" ;;
  esac
done
whole "$nodes" --nodes
whole "$gpus" --gpus
whole "$tries" --tries
(($#)) || die "nothing to run; expected -- train experiments/X.py [options]"

# The command of each node. The first host of the step is the coordinator; its port is derived from the job number.
# shellcheck disable=SC2016 # expanded on the node
task='first=$(scontrol show hostnames "$SLURM_STEP_NODELIST" | head -n 1)
export JAX_COORDINATOR_ADDRESS="$first:$((20000 + SLURM_JOB_ID % 20000))"
export JAX_NUM_PROCESSES="$SLURM_NTASKS" JAX_PROCESS_ID="$SLURM_PROCID"
exec '"${PAIRJAX:-pairjax}"' "$@"'

# srun_words WORD...: sets WORDS to the complete srun command.
srun_words() {
  WORDS=(srun "--nodes=$nodes" "--ntasks=$nodes" --ntasks-per-node=1 "--gpus-per-node=$gpus" --kill-on-bad-exit=1
    "--output=$logs/process-%t.log" "${more[@]}" bash -c "$task" pairjax "$@")
}

if [[ -n $dry ]]; then
  srun_words "$@"
  quoted mkdir -p "$logs"
  printf '\n'
  quoted "${WORDS[@]}"
  printf '\n'
  exit 0
fi
command -v srun >/dev/null || die "srun: not found; this launcher runs where Slurm is"

# one_try WORD...: runs srun and sets CODE to its exit code.
one_try() {
  rm -f "$logs"/process-*.log
  srun_words "$@"
  CODE=0
  "${WORDS[@]}" || CODE=$?
  ((CODE == 0)) && return
  local log
  for log in "$logs"/process-*.log; do
    [[ -e $log ]] || continue
    # A process that ended because another was lost says so in one line. Show the log of the one that failed first.
    if ((nodes == 1)) || ! grep -q "start all processes again with --run.resume" "$log"; then
      show_log "$log" "$(basename "$log" .log)"
    fi
  done
}

mkdir -p "$logs"
say "output of each process in $logs/process-*.log"
run_tries "$tries" "$logs/process-0.log" "$@"
exit "$CODE"
