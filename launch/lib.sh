# shellcheck shell=bash
# Functions that the launchers share. They know the command line of pairjax and its exit codes, and nothing else of it:
#   0 done, 2 bad input, 130 and 143 stopped by a signal (saved), 75 another process was lost, anything else a crash.

die() {
  printf '%s: error: %s\n' "${0##*/}" "$1" >&2
  exit 2
}

say() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
}

# quoted WORD...: prints the words, quoted for a shell.
quoted() {
  local word out=""
  for word in "$@"; do out+=" $(printf '%q' "$word")"; done
  printf '%s' "${out# }"
}

# need VALUE OPTION: prints the value of an option; ends the script if it is missing.
need() {
  if [[ -z ${1-} || ${1-} == -- ]]; then die "$2 needs a value"; fi
  printf '%s' "$1"
}

# whole VALUE OPTION: checks that the value is a whole number of at least 1.
whole() {
  [[ $1 =~ ^[1-9][0-9]*$ ]] || die "$2 $1: expected a whole number of at least 1"
}

# resumed WORD...: sets RESUMED to the same command with --run.resume, for another try.
resumed() {
  RESUMED=()
  local word
  for word in "$@"; do
    case $word in
      --run.overwrite | --run.resume | --no-run.overwrite | --no-run.resume) ;;
      *) RESUMED+=("$word") ;;
    esac
  done
  RESUMED+=(--run.resume)
}

# again CODE: succeeds if another try may help.
again() {
  case $1 in
    0 | 2 | 130 | 143) return 1 ;;
    *) return 0 ;;
  esac
}

# run_tries TRIES LOG WORD...: calls one_try with the words. After a crash it tries again from the last checkpoint, at
# most TRIES times in all. Sets CODE to the last exit code. LOG is the log of the first process.
run_tries() {
  local tries=$1 log=$2 try
  shift 2
  local command=("$@")
  for ((try = 1; ; try++)); do
    one_try "${command[@]}"
    if ((CODE == 2 && try > 1)) && grep -qs "there is no run to resume" "$log"; then
      say "the crash came before the run's folder: from the beginning"
      one_try "$@"
    fi
    if ! again "$CODE" || ((try >= tries)); then break; fi
    say "try $try of $tries ended with code $CODE: going on from the last checkpoint"
    resumed "$@"
    command=("${RESUMED[@]}")
  done
}

# show_log FILE WHO: prints the end of a failed process's log to standard error.
show_log() {
  printf '%s\n' "---- $2: the last lines of $1" >&2
  tail -n "${TAIL:-30}" "$1" >&2 || true
  printf '%s\n' "----" >&2
}
