# shellcheck shell=bash
# What the job scripts share; they source it. Runs on the login node, when a job is submitted, and on compute nodes.
set -euo pipefail
export RUNS_DIR=${RUNS_DIR:-runs}

say() { echo "[$(date '+%F %T')] $*"; }

fail() {
  echo "error: $*" >&2
  exit 2
}

# What a cluster needs, before anything else: modules, a virtual environment, an account (SBATCH_ACCOUNT), proxies.
prepare_site() {
  local site=${SITE:-slurm/site.sh}
  if [[ -f $site ]]; then
    # Modules and activation scripts use variables that are not set.
    set +u
    # shellcheck disable=SC1090
    source "$site"
    set -u
  elif [[ -f .venv/bin/activate ]]; then
    # shellcheck disable=SC1091
    source .venv/bin/activate
  fi
}

# split [SBATCH'S OPTIONS --] [THE COMMAND'S ARGUMENTS]: into the arrays OPTIONS and ARGUMENTS.
split() {
  OPTIONS=() ARGUMENTS=("$@")
  local position
  for ((position = 1; position <= $#; position++)); do
    if [[ ${!position} == -- ]]; then
      OPTIONS=("${@:1:position-1}") ARGUMENTS=("${@:position+1}")
      return
    fi
  done
}

# keep FOLDER ARGUMENTS...: copies the config files that the arguments name; KEPT has the arguments with the copies.
keep() {
  local folder=$1 number=0 config copy
  shift
  KEPT=()
  while (($#)); do
    case $1 in
      --config | -c)
        config=${2?"$1 needs a file"}
        shift
        ;;
      --config=*) config=${1#*=} ;;
      *)
        KEPT+=("$1")
        shift
        continue
        ;;
    esac
    shift
    if [[ $config != *:* ]]; then # otherwise it is YAML itself, not the name of a file
      [[ -f $config ]] || fail "There is no config $config: give a path below $PWD."
      copy=$folder/$((++number))-${config##*/}
      cp -- "$config" "$copy"
      config=$copy
    fi
    KEPT+=(--config "$config")
  done
}

# submit SCRIPT DEFAULTS...: submits a job with OPTIONS and ARGUMENTS, from copies of its scripts and configs; prints
# its id. DEFAULTS are options for sbatch, used where OPTIONS name no GPUs, CPUs or tasks.
submit() {
  local script=$1 folder defaults=() log=%x-%j.out
  shift
  [[ " ${OPTIONS[*]} " =~ \ (-G|-c|-n|--gpu|--gres|--cpus|--ntasks) ]] || defaults=("$@")
  [[ " ${OPTIONS[*]}" != *\ --array* ]] || log=%x-%A_%a.out
  folder=$RUNS_DIR/submitted/$(date +%Y-%m-%dT%H-%M-%S)-$(basename "$script" .sbatch)
  mkdir -p "$RUNS_DIR/submitted"
  folder=$(mktemp -d "$folder-XXXX")
  keep "$folder" "${ARGUMENTS[@]}"
  cp slurm/common.sh "$script" "$folder"
  git describe --always --dirty --abbrev=12 --exclude='*' >"$folder/commit" 2>/dev/null || true
  printf '%q ' "$script" "${OPTIONS[@]}" -- "${ARGUMENTS[@]}" >"$folder/command"
  sbatch --parsable --output="$folder/$log" --export="ALL,SUBMISSION=$folder" \
    "${defaults[@]}" "${OPTIONS[@]}" "$folder/${script##*/}" "${KEPT[@]}" | cut -d';' -f1 | tee "$folder/job"
  echo "Its log, configs and scripts are in $folder." >&2
}

# begin ARGUMENTS...: on the first node of a job. Sets JOB, KEPT, and the address by which processes find each other.
begin() {
  JOB=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}
  if [[ -n ${SUBMISSION:-} ]]; then
    KEPT=("$@")
  else
    # Submitted by sbatch itself: the first start copies the configs; starts after a requeue use these copies.
    SUBMISSION=$RUNS_DIR/submitted/job_$JOB
    mkdir -p "$SUBMISSION"
    if [[ -f $SUBMISSION/arguments ]]; then
      mapfile -d '' KEPT <"$SUBMISSION/arguments"
    else
      split "$@"
      keep "$SUBMISSION" "${ARGUMENTS[@]}"
      printf '%s\0' "${KEPT[@]}" >"$SUBMISSION/arguments.writing"
      mv "$SUBMISSION/arguments.writing" "$SUBMISSION/arguments"
    fi
  fi
  prepare_site
  STARTED=$SUBMISSION/started-$JOB
  touch "$STARTED"
  if [[ -z ${MASTER_ADDR:-} ]]; then
    MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    export MASTER_ADDR
  fi
  export NCCL_DEBUG=${NCCL_DEBUG:-WARN} PYTHONUNBUFFERED=1
  say "Job $JOB ($SLURM_JOB_NAME), start $((${SLURM_RESTART_COUNT:-0} + 1)), on $SLURM_JOB_NODELIST"
}

# given OPTION: whether the user has given it.
given() { [[ " ${KEPT[*]} " =~ \ --$1[\ =] ]]; }

# with_requeue COMMAND...: runs it; requeues the job near the time limit (SLURM's signal USR1) and when preempted.
with_requeue() {
  local code signalled
  # A signal to this script ends the wait, though the command is still running.
  trap 'signalled=1; near_limit' USR1
  trap 'signalled=1' TERM
  "$@" &
  while signalled=; do
    code=0
    wait $! || code=$?
    [[ $signalled ]] || break
  done
  # Bash's code for a process that ended at the moment of a signal.
  [[ $code != -1 ]] || code=143
  # Preempted, with time to end.
  if [[ $(job PreemptTime) == *:* && $(job JobState) == RUNNING ]]; then
    say "The processes were told to stop."
    requeue
  fi
  say "Ended with code $code."
  return "$code"
}

# job FIELD: what SLURM says of this job.
job() { scontrol show job "$SLURM_JOB_ID" | sed -n "s/.*\b$1=\([^ ]*\).*/\1/p"; }

near_limit() {
  local runs=("$RUNS_DIR"/*/"job_$JOB")
  if [[ -e ${runs[0]} && -z $(find -L "${runs[@]}" -name last.ckpt -newer "$STARTED") ]]; then
    say "Near the time limit, but nothing was saved since the start, so the job is not queued again: give it a longer" \
      "--time, or save more often."
  else
    say "Near the time limit."
    requeue
  fi
}

requeue() {
  if ((${SLURM_RESTART_COUNT:-0} >= ${MAX_RESTARTS:-100})); then
    say "Not queued again after $SLURM_RESTART_COUNT times (MAX_RESTARTS)."
    return
  fi
  say "Queueing job $JOB again; it resumes from what is saved."
  scontrol requeue "$SLURM_JOB_ID" ||
    say "This cluster does not requeue: submit the job again; a training resumes with --version job_$JOB."
}
