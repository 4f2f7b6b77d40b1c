#!/usr/bin/env bash
# Trains on a Cloud TPU, and can be left alone overnight. Creates or reuses a queued resource, installs
# scs_jax on every worker, starts the run or finds the one that is there, shows the log of worker 0,
# and starts again after a preemption. It copies itself to the workers, where its first half runs.
# shellcheck disable=SC2329 # functions that are called by a name or by a trap
set -euo pipefail

usage() {
  cat << 'USAGE'
Usage: ./run_tpu.sh --name=NAME --zone=ZONE --type=TYPE --config=CONFIG --workdir=gs://BUCKET/DIR [options]
       ./run_tpu.sh --name=NAME --zone=ZONE --attach | --stop | --logs=DIR | --delete

  --name=NAME          of the queued resource and its node
  --zone=ZONE          e.g. us-west4-a
  --type=TYPE          e.g. v5litepod-16
  --config=CONFIG      e.g. configs/cifar10.py:resnet20, a file of your own, or a workdir's config.json;
                       the Python files beside it and those of the current folder are copied too
  --workdir=DIR        where the run lives; a bucket, so that it outlives a preempted machine
  --args=ARG           one more flag of scs_jax.main, passed as typed; repeat it for each flag
  --data-copy=gs://…   copied to ~/tensorflow_datasets on every worker
  --data-mount=BUCKET  mounted read-only (gcsfuse) as ~/tensorflow_datasets
  --runtime=VERSION    of the TPU software; by default the documented one of v2 to v4, v5e, v5p and v6e
  --spot               cheaper, may be taken away at any time
  --create-args=ARG    one more flag of gcloud's create, e.g. --reserved or --network=NAME; repeat it
  --project=PROJECT    gcloud's own by default
  --attempts=N         tries at most, whatever failed, with growing pauses; 100 by default
  --delete-at-end      deletes the machine when the run has ended, whatever its exit code
  --dry-run            prints every command and runs none

  --attach             shows the log of the run that is there, and waits for its end
  --stop               lets the run save a checkpoint and end
  --logs=DIR           copies the log of every worker to DIR
  --delete             deletes the machine now; it is billed until then

The same command again finds a run that is alive, follows it and reports its end. A run that fails by
itself is not started again. The exit code is that of the run; 2 is a wrong argument or a refusal, and
75 means that all attempts failed. Environment: POLL_SECONDS=30 between looks at the machine,
GRACE_SECONDS=120 for a worker to end after another one has, or after --stop, and ANSWER_SECONDS=600
for a worker to answer a question.
USAGE
}

say() { echo "run_tpu.sh: $*" >&2; }
fail() {
  say "$@"
  exit 2
}

# ------------------------------------------------------------------------------ On each worker
# `bash sent/TOKEN/run_tpu.sh --on-worker TOKEN OPERATION` in ~/scs_jax. sent/TOKEN is what a launcher
# has copied. run/ is the run: arguments, config, code/, log, pid; `alive`, locked as long as a process
# of the run lives, which no reboot can fake; `ended`: exit code, time, reason; `seen`: it was reported.

condition() {
  if [[ ! -e run/alive ]]; then
    echo none
  elif [[ -e run/seen ]]; then
    echo seen
  elif [[ ! -e run/ended ]] && ! flock --nonblock --shared run/alive true; then
    echo live
  elif [[ -e run/ended && $(< run/ended) != *shutdown* ]]; then
    echo ended
  else
    echo lost # by a reboot, for example
  fi
}

is_same() { cmp -s "$sent/arguments" run/arguments && cmp -s "$sent/config" run/config; }

refuse_another() {
  local words
  mapfile -d '' -t words < run/arguments
  say "$(hostname) already trains with other arguments, or another config file:$(printf ' %q' "${words[@]}")"
  exit 70 # which the launcher does not try again
}

lock() {
  exec 8> lock
  flock --timeout 1800 8 || {
    say "$(hostname): another launcher has been installing for half an hour"
    exit 1
  }
}

worker_state() {
  local now
  now=$(condition)
  if [[ $now == seen && -e run/awaited.$token ]]; then
    now=ended # another launcher was the first to report it
  elif [[ $now != none && -e $sent/arguments ]] && ! is_same; then
    [[ $now != live ]] || refuse_another
    now=seen # its end is not the one to report
  fi
  echo "scs_jax says: $now"
}

worker_install() {
  local data=$HOME/tensorflow_datasets
  lock
  [[ $(condition) != live ]] || return 0 # another launcher was faster
  # uv, because a TPU machine's own Python may be older than the one we need.
  [[ -x ~/.local/bin/uv ]] || PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
  ~/.local/bin/uv venv --quiet --allow-existing --python 3.12 venv
  ~/.local/bin/uv pip install --quiet --python venv/bin/python --reinstall-package scs-jax \
    'jax[tpu]' "$(echo "$sent"/*.whl)[train,gcs]"
  mkdir -p "$data"
  ! mountpoint -q "$data" || fusermount -u "$data" # an earlier launch may have mounted another bucket
  if [[ -e $sent/data_copy ]]; then
    gcloud storage rsync --recursive "$(< "$sent/data_copy")" "$data"
  elif [[ -e $sent/data_mount ]]; then
    command -v gcsfuse > /dev/null || {
      say "$(hostname) has no gcsfuse: install it there, or use --data-copy=gs://…"
      exit 70
    }
    gcsfuse -o ro --implicit-dirs "$(< "$sent/data_mount")" "$data"
  fi
}

worker_start() {
  local start=$token.$1
  lock
  # gcloud repeats a command whose connection was lost.
  [[ ! -e run/start || $(< run/start) != "$start" ]] || return 0
  if [[ $(condition) == live ]]; then
    is_same || refuse_another
    return 0
  fi
  find sent -mindepth 1 -maxdepth 1 ! -name "$token" -mmin +1440 -exec rm -rf {} +
  rm -rf next # what needs room on the disk comes before anything of the last run is moved
  trap 'rm -rf next' EXIT
  mkdir next
  cp -R "$sent/arguments" "$sent/config" "$sent/code" next/
  printf '%63s\n' '' > next/draft # takes the bytes of `ended`: the disk may be full then
  head -c 1000000 /dev/zero > next/room # for the first lines of the log
  echo "$start" | tee next/start > next/born
  if [[ -e run/seen ]] || ! is_same; then
    rm -rf previous
    [[ ! -e run ]] || mv run previous
    [[ ! -e previous/ended || -e previous/seen ]] ||
      say "$(hostname): nobody saw the end of an earlier run; its log is ~/scs_jax/previous/log"
    mv next run
  else # the run goes on, and so does its log
    rm -rf run/alive run/ended run/stopped run/pid run/code next/born
    mv -f next/* run/
  fi
  exec 9> run/alive
  flock 9
  setsid python3 -c "$foster" bash "$sent/run_tpu.sh" --on-worker "$token" \
    8>&- < /dev/null > /dev/null 2>&1 &
}

# If the shell that waits for the program is killed, its parent becomes the program's.
foster='
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
subprocess.Popen([*sys.argv[1:], "run"], close_fds=False)
while not os.path.exists("run/ended"):
  process, status = os.wait()
  if process == int(open("run/pid").read()):
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    subprocess.call([*sys.argv[1:], "end", str(code), "itself"], close_fds=False)
'

# Runs the program, and writes how it ended.
worker_run() {
  local words code=0 reason=itself
  trap 'reason=shutdown' TERM # only the machine signals this process
  trap : HUP INT
  mapfile -d '' -t words < run/arguments
  rm -f run/room
  (
    # With tpu in JAX_PLATFORMS, JAX fails if it finds no TPU, and never trains on the CPU instead.
    cd run/code && echo "$BASHPID" > ../pid && exec setsid env JAX_PLATFORMS=tpu,cpu \
      TFDS_DATA_DIR="$HOME/tensorflow_datasets" PYTHONUNBUFFERED=1 \
      "$HOME/scs_jax/venv/bin/python" -m scs_jax.main "${words[@]}"
  ) >> run/log 2>&1 || code=$?
  worker_end "$code" "$reason"
}

worker_end() {
  local reason=$2
  kill -KILL -- "-$(< run/pid)" 2> /dev/null || true # what it leaves behind would keep the chips
  [[ ! -e run/stopped ]] || reason=stopped
  printf '%s %s %s' "$1" "$(date +%s.%N)" "$reason" 1<> run/draft
  mv -f run/draft run/ended
}

# Waits for the end of the run, $1 seconds at most. The lock tells it at once; a service that the
# program has left may hold the lock, but `ended` is there then.
ends_within() {
  for ((i = 0; i < $1; i++)); do
    if flock --shared --timeout 1 run/alive true || [[ -e run/ended ]]; then return 0; fi
  done
  return 1
}

# Prints a file from byte $2 on as it grows. Ends with the run, or with the connection: tail sees both.
until_end() {
  [[ -e run/alive ]] || return 0
  until ends_within 60; do :; done &
  tail -c "+$2" -s 0.5 -f --pid=$! "$1" || true
  kill $! 2> /dev/null || true
  [[ $(condition) != live ]] # or else one of the two was killed
}

worker_follow() {
  # Once for each number: gcloud repeats a command whose connection was lost, and would repeat the log.
  [[ ! -e run/shown.$token.$1 ]] || exit 75
  touch "run/shown.$token.$1" || true # the disk may be full
  echo "scs_jax says: $(< run/born)"
  [[ ${3:-} == "$(< run/born)" ]] || set -- "$1" 1 # the launcher knows another log
  until_end run/log "$2"
}

worker_await() {
  local end=''
  touch "run/awaited.$token" || true # the disk may be full
  until_end /dev/null 1
  [[ ! -e run/ended ]] || read -r end < run/ended
  echo "scs_jax says: $(condition) $end $(hostname)"
}

worker_stop() {
  [[ $(condition) == live ]] || return 0
  touch run/stopped || true
  kill -TERM "$(< run/pid)" || true
  ends_within "$1" || kill -KILL -- "-$(< run/pid)"
  ends_within 10
}

worker_seen() {
  [[ -e run/ended ]] || return 0
  if [[ ${1:-} == "$(hostname)" ]] && ! compgen -G "run/shown.$token.*" > /dev/null; then
    tail -n 30 run/log | sed "s/^/$1: /" >&2
  fi
  touch run/seen || true
}

if [[ ${1:-} == --on-worker ]]; then
  token=$2 sent=sent/$2
  cd ~/scs_jax
  # On one line, because bash reads a file as it goes, and a newer copy may overwrite this one.
  "worker_$3" "${@:4}"; exit
fi

# ------------------------------------------------------------------------------ On this machine

name='' zone='' type='' config='' workdir='' project='' data_copy='' data_mount='' runtime='' attempts=100
mode=run spot='' delete_at_end='' dry='' logs='' program=() create=()
for argument in "$@"; do
  value=${argument#*=}
  case $argument in
    --name=*) name=$value ;;
    --zone=*) zone=$value ;;
    --type=*) type=$value ;;
    --config=*) config=$value ;;
    --workdir=*) workdir=$value ;;
    --args=*) program+=("$value") ;;
    --data-copy=*) data_copy=$value ;;
    --data-mount=*) data_mount=$value ;;
    --runtime=*) runtime=$value ;;
    --spot) spot=yes ;;
    --create-args=*) create+=("$value") ;;
    --project=*) project=$value ;;
    --attempts=*) attempts=$value ;;
    --delete-at-end) delete_at_end=yes ;;
    --dry-run) dry=yes ;;
    --logs=*) mode=logs logs=$value ;;
    --attach | --stop | --delete) mode=${argument#--} ;;
    --help | -h) usage && exit ;;
    *) fail "unknown argument '$argument'; see --help" ;;
  esac
done
poll=${POLL_SECONDS:-30} grace=${GRACE_SECONDS:-120} patience=${ANSWER_SECONDS:-600}
[[ -n $name ]] || fail "--name is missing; see --help"
[[ $name =~ ^[a-z]([-a-z0-9]*[a-z0-9])?$ ]] || fail "--name='$name' must be small letters, digits and dashes"
[[ -n $zone ]] || fail "--zone is missing; see --help"
[[ $zone =~ ^[a-z0-9-]+$ ]] || fail "--zone='$zone' is no zone, such as us-west4-a"
[[ $attempts =~ ^[1-9][0-9]{0,5}$ ]] || fail "--attempts=$attempts must be a positive number"
for seconds in "$poll" "$grace" "$patience"; do
  [[ $seconds =~ ^(0|[1-9][0-9]{0,4})$ ]] || fail "POLL_, GRACE_ and ANSWER_SECONDS must be whole numbers, not $seconds"
done
if [[ $mode == run ]]; then
  [[ -n $type ]] || fail "--type is missing, e.g. --type=v5litepod-16"
  [[ -n $config ]] || fail "--config is missing, e.g. --config=configs/imagenet.py"
  [[ -f ${config%%:*} ]] || fail "--config=$config: there is no file ${config%%:*} here"
  [[ -n $workdir ]] || fail "--workdir is missing, e.g. --workdir=gs://bucket/run"
  [[ $workdir == *://* || $workdir == [/~]* ]] || fail "--workdir=$workdir is relative: use gs://…"
  [[ -z $spot || $workdir == gs://* ]] || fail "--workdir=$workdir dies with a spot machine: use gs://…"
  [[ -z $data_copy || $data_copy == gs://* ]] || fail "--data-copy=$data_copy must be in a bucket, gs://…"
  [[ -z $data_mount || $data_mount =~ ^[a-z0-9][a-z0-9._-]*$ ]] || fail "--data-mount=$data_mount is no bucket's name"
  [[ -z $data_copy || -z $data_mount ]] || fail "use --data-copy or --data-mount, not both"
  [[ -n $runtime ]] || case $type in # https://cloud.google.com/tpu/docs/runtimes
    v2-* | v3-* | v4-*) runtime=tpu-ubuntu2204-base ;;
    v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
    v5p-*) runtime=v2-alpha-tpuv5 ;;
    v6e-*) runtime=v2-alpha-tpuv6e ;;
    v5e-*) fail "--type=$type: gcloud calls it v5litepod-${type#v5e-}" ;;
    *) fail "--type=$type: its software is not known here, add --runtime=VERSION" ;;
  esac
fi
[[ $mode != logs || -n $logs ]] || fail "--logs is empty, e.g. --logs=logs"
[[ -z $dry || $mode == run || $mode == delete ]] || fail "--dry-run is for a launch"
[[ -n $dry ]] || command -v gcloud > /dev/null || fail "gcloud is not on PATH: install the Google Cloud CLI"

home=$(dirname "$(realpath "$0")")
scope=(--zone="$zone" ${project:+"--project=$project"})
me=$(printf '%q ' "$0" --name="$name" "${scope[@]}")
billed="If $name is there, it is billed until: ${me}--delete"
no_machine="Ask for quota of $type in $zone, or try another --zone or --type."
token=$(date +%s)-$$-$RANDOM
scratch=$(mktemp -d)
stage=$scratch/scs_jax/sent/$token
# Without ServerAlive, ssh waits for hours for a machine that has vanished.
ssh=(-oBatchMode=yes -oConnectTimeout=15 -oServerAliveInterval=15 -oServerAliveCountMax=4)
jobs=()

run() { if [[ -n $dry ]]; then printf '%q ' "$@" && echo; else "$@" < /dev/null; fi; }
tpus() { run gcloud compute tpus "$@" "${scope[@]}" --quiet; }
copy() { tpus tpu-vm scp "$@" "${ssh[@]/#/--scp-flag=}"; }
delete_resource() { tpus queued-resources delete "$name" --force; }

# Runs an operation on worker $1, or on all. The command has nothing that a user typed.
on() {
  tpus tpu-vm ssh "$name" --worker="$1" "${ssh[@]/#/--ssh-flag=}" \
    --command="bash scs_jax/sent/$token/run_tpu.sh --on-worker $token ${*:2}"
}

# Runs what takes seconds, unless a worker hangs, and ends it then.
briefly() {
  local code=0 job
  set -m # the job is a process group, and can be ended as a whole
  "$@" &
  job=$!
  set +m
  jobs=("$job")
  {
    for ((i = 0; i < patience; i++)); do
      sleep 1
      kill -0 "$job" || exit 0
    done
    kill -- "-$job"
  } > /dev/null 2>&1 &
  wait "$job" || code=$?
  jobs=()
  [[ $code -ne 143 ]] || say "the workers have not answered for $patience s"
  return "$code"
}

# Keeps what failed and how to mend it, for the case that no further attempt succeeds.
failed() {
  trouble=$1 remedy=$2
  return 1
}

# What gcloud has just said will be the same in an hour.
is_hopeless() { grep -qE '[A-Z]_ARGUMENT|NOT_FOUND|_DENIED|active account|core/project' "$scratch/error"; }

state() {
  if [[ -n $dry ]]; then
    echo ACTIVE
  elif ! tpus queued-resources describe "$name" --format='value(state.state)' 2> "$scratch/error"; then
    if [[ ! -s $scratch/error ]] || grep -qi 'not.found' "$scratch/error"; then
      echo ABSENT
    else
      cat "$scratch/error" >&2
      echo UNKNOWN # it may be there, so that creating it would be wrong
    fi
  fi
}

create_resource() {
  local code=0
  tpus queued-resources create "$name" --node-id="$name" --accelerator-type="$type" \
    --runtime-version="$runtime" ${spot:+--spot} ${create[@]+"${create[@]}"} 2> "$scratch/error" || code=$?
  cat "$scratch/error" >&2
  [[ $code -ne 0 ]] || return 0
  ! grep -q ALREADY_EXISTS "$scratch/error" || return 0 # another launcher was faster
  if [[ $code -eq 2 ]] || is_hopeless; then fail "gcloud refuses to create $name, see above"; fi
  failed "$name could not be created, see above" "$no_machine"
}

# Waits for the machine. Makes it if there is none, once in an attempt, or anew if it was taken away.
acquire() {
  local now='' before='' made='' gone=0
  while true; do
    now=$(state)
    [[ $now == "$before" ]] || say "$name is $now in $zone"
    before=$now
    [[ $mode == run || $now == ACTIVE || $now == UNKNOWN ]] || fail "$name cannot be reached: it is $now in $zone"
    case $now in
      ACTIVE) used=yes && return ;;
      UNKNOWN)
        [[ $attempt -gt 1 ]] || ! is_hopeless || fail "gcloud refuses to describe $name, see above"
        failed "gcloud could not describe $name, see above" "Perhaps: gcloud auth login." || return
        ;;
      ABSENT)
        [[ -z $made ]] || failed "$name has vanished, or its name is taken; see above" "$no_machine" || return
        if [[ -z $used ]]; then
          create_resource || return
          made=yes
        else # by hand; or another launcher is about to make it anew
          [[ $((gone += 1)) -lt 5 ]] || fail "$name was deleted. The same command makes it anew"
        fi
        ;;
      FAILED | SUSPENDED)
        tpus queued-resources describe "$name" --format='yaml(state)' >&2 || true
        delete_resource || failed "$name could not be deleted, see above" "Delete it by hand." || return
        used=''
        [[ -z $made ]] || failed "$name became $now, see above" "$no_machine" || return
        ;;
    esac
    sleep "$poll"
  done
}

# Puts what the workers need into $stage.
prepare() {
  local file=${config%%:*} folder
  [[ $file == /* ]] || file=$PWD/$file
  mkdir -p "$stage/code"
  cp "${BASH_SOURCE[0]}" "$stage/run_tpu.sh"
  [[ $mode == run ]] || return 0
  # Before anything is created, and billed, for a wheel that cannot be built.
  run python3 -m pip wheel --quiet --no-deps --wheel-dir="$stage" "$home" ||
    fail "the wheel could not be built, see above"
  cp -R "$home/configs" "$stage/code/"
  cp "$file" "$stage/config"
  folder=$(realpath "$(dirname "$file")")
  if [[ $folder/ == "$home/configs/"* ]]; then
    file=${folder#"$home/"}/${file##*/}
  else
    find . "$folder" -maxdepth 1 -name '*.py' -exec cp {} "$stage/code/" \;
    file=${file##*/}
    cp "$stage/config" "$stage/code/$file"
  fi
  [[ $config != *:* ]] || file+=:${config#*:}
  printf '%s\0' --distributed --config="$file" --workdir="$workdir" \
    ${program[@]+"${program[@]}"} > "$stage/arguments"
  [[ -z $data_copy ]] || printf %s "$data_copy" > "$stage/data_copy"
  [[ -z $data_mount ]] || printf %s "$data_mount" > "$stage/data_mount"
}

# Asks all workers how their run is: $conditions has a line for each.
ask() {
  local code=0
  briefly copy --recurse "$scratch/scs_jax" "$name:" --worker=all || code=$?
  [[ $code -ne 0 ]] || briefly on all state > "$scratch/said" || code=$?
  [[ $code -ne 70 ]] || fail "follow that run (${me}--attach), or end it first (${me}--stop)"
  [[ $code -eq 0 ]] || failed "the workers could not be reached, see above" \
    "Perhaps: ssh-add ~/.ssh/google_compute_engine; or the firewall, or a full disk." || return
  conditions=$(sed -n 's/.*scs_jax says: //p' "$scratch/said")
  [[ -n $conditions ]] || failed "the workers did not answer" "Look at them: ${me}--attach"
}

# Starts the run on all workers, unless all of them have one to follow.
begin() {
  local code=0
  ask || return
  if [[ $mode == attach ]]; then
    ! grep -qE 'none|lost' <<< "$conditions" || fail "no run is alive on $name: ${conditions//$'\n'/, }"
    return 0
  elif ! grep -qE 'none|lost|seen' <<< "$conditions"; then
    case $conditions in
      *live*) say "the run is alive on $name: it is followed, not started again" ;;
      *) say "the run has ended on $name: its end is reported; the same command again starts it anew" ;;
    esac
    return 0
  fi
  if [[ $conditions == *live* ]]; then
    sleep $((1 + grace / 10)) # another launcher may be about to start the other workers
    ask || return
    grep -qE 'none|lost|seen' <<< "$conditions" || return 0
    on all stop "$grace" || true # what is left of a run that lost a worker
  fi
  on all install || code=$?
  [[ $code -ne 70 ]] || fail "the installation cannot succeed, see above. $billed"
  [[ $code -eq 0 ]] || failed "the installation failed, see above" "Mend what it names." || return
  # On worker 0 first: of two launchers with other arguments, one is refused before it starts anything.
  { on 0 start "$attempt" && on all start "$attempt"; } || code=$?
  [[ $code -ne 70 ]] || fail "another launcher was faster. Follow its run: ${me}--attach"
  if [[ $code -ne 0 ]]; then
    on all stop "$grace" || true
    failed "the run could not be started, see above" "Mend what it names."
  fi
}

# Shows the log of worker 0, from the byte on where the connection was lost.
show() {
  local number=0 line=''
  while true; do
    number=$((number + 1))
    on 0 follow "$attempt.$number" $(($(wc -c < "$scratch/log") + 1)) "$(< "$scratch/born")" | {
      until [[ $line == *'scs_jax says: '* ]]; do IFS= read -r line || exit; done
      line=${line#*scs_jax says: }
      [[ $line == "$(< "$scratch/born")" ]] || : > "$scratch/log"
      echo "$line" > "$scratch/born"
      tee -a "$scratch/log"
    }
    [[ ${PIPESTATUS[0]} -ne 0 ]] || return 0
    sleep "$poll"
  done
}

# Waits until the run has ended on all workers. A worker that goes on long after another one hangs.
await() {
  local line hurried='' how code host
  on all await | while IFS= read -r line; do
    [[ $line == *'scs_jax says: '* ]] || continue
    line=${line#*scs_jax says: }
    echo "$line" >> "$scratch/ends"
    [[ -z $hurried ]] || continue
    hurried=yes
    read -r how code _ _ host <<< "$line"
    [[ $how != ended || $workers -eq 1 ]] ||
      say "the run ended on $host with exit code $code; the other workers have $grace s"
    { sleep "$grace" && touch "$scratch/hung" && until on all stop "$grace"; do sleep "$poll"; done; } &
  done
  return "${PIPESTATUS[0]}"
}

end_jobs() {
  local job
  for job in ${jobs[@]+"${jobs[@]}"}; do kill -- "-$job" 2> /dev/null || true; done
  jobs=()
}

# Follows the run to its end on all workers.
watch() {
  local shower waiter lost='' begun=$SECONDS workers ends
  workers=$(grep -c . <<< "$conditions")
  rm -f "$scratch/hung"
  : > "$scratch/ends"
  set -m # each job is a process group, and can be ended as a whole
  show &
  shower=$!
  await &
  waiter=$!
  # After kill -9 of this process they would go on, and write between the lines of the next one.
  { while kill -0 $$; do sleep 1; done; kill -- "-$shower" "-$waiter"; } > /dev/null 2>&1 &
  jobs=("$shower" "$waiter" $!)
  set +m
  wait "$waiter" || lost=yes
  # The last lines of the log are on their way, perhaps by a new connection.
  for ((i = 0; i < 1500; i++)); do
    if [[ -n $lost ]] || ! kill -0 "$shower" 2> /dev/null; then break; fi
    sleep 0.2
  done
  end_jobs
  [[ $((SECONDS - begun)) -lt 600 ]] || failures=0
  ends=$(grep -cE '^(ended|seen) [0-9]+ [0-9.]+ (itself|stopped) ' "$scratch/ends" || true)
  if [[ -n $lost || $ends -ne $workers ]]; then
    failed "the machine or the connection was lost" "The run may be alive: ${me}--attach."
  fi
}

# Says how the run has ended, and exits with its code.
report() {
  local first code host
  # Of several workers that failed, the first was the cause.
  first=$(awk '$2 > 0 { print $3, $2, $NF }' "$scratch/ends" | sort -n | head -n 1)
  read -r _ code host <<< "${first:-0 0 -}"
  briefly on all seen "$host" || true # shows the end of its log, unless that was shown
  if [[ -e $scratch/hung && $code -eq 0 ]]; then
    say "a worker did not end within $grace s after the others, and was stopped; all logs: ${me}--logs=DIR"
    code=1
  elif [[ ! -e $scratch/hung ]] && grep -q ' stopped ' "$scratch/ends"; then
    say "the run was stopped, with exit code $code; the same command resumes it"
  elif [[ $code -ne 0 ]]; then
    say "the run ended with exit code $code on $host, see above; all logs: ${me}--logs=DIR"
  else
    say "the run has ended"
  fi
  if [[ -z $delete_at_end ]]; then say "$billed"; else delete_resource || say "$billed"; fi
  exit "$code"
}

interrupted() {
  say "the launcher ends; a run that was started goes on. Follow it: ${me}--attach. End it: ${me}--stop"
  say "$billed"
  exit 130
}

trap 'end_jobs; rm -rf "$scratch"' EXIT
touch "$scratch/log" "$scratch/born"
attempt=1 failures=0 used=''
if [[ $mode == delete ]]; then
  delete_resource
  exit
elif [[ $mode == logs ]]; then
  [[ $logs == /* ]] || logs=$PWD/$logs
  mkdir -p "$logs"
  count=$(tpus tpu-vm describe "$name" --format='value(networkEndpoints.len())')
  [[ $count =~ ^[0-9]+$ ]] || fail "gcloud does not say how many workers $name has: $count"
  for ((i = 0; i < count; i++)); do copy "$name:scs_jax/run/log" "$logs/worker-$i.log" --worker="$i"; done
  exit
fi
prepare
if [[ -n $dry ]]; then
  create_resource
  copy --recurse "$scratch/scs_jax" "$name:" --worker=all
  for operation in state install; do on all "$operation"; done
  for workers in 0 all; do on "$workers" start 1; done
  on 0 follow 1.1 1
  for operation in await seen; do on all "$operation"; done
  exit
elif [[ $mode == stop ]]; then
  if ! acquire || ! ask; then fail "$trouble. $remedy"; fi
  [[ $conditions == *live* ]] || fail "no run is alive on $name"
  on all stop "$grace"
  on all seen
  say "the run was stopped; the command that started it resumes it. $billed"
  exit
fi
trap interrupted HUP INT TERM
# Nothing follows this loop, because bash reads a file as it goes, and this one may be edited meanwhile.
until acquire && begin && watch && report; do
  if [[ $attempt -eq $attempts ]]; then
    say "gave up after $attempts attempts: $trouble. $remedy The same command goes on. $billed"
    exit 75
  fi
  pause=$((2 ** (failures < 6 ? failures : 6)))
  say "attempt $attempt of $attempts: $trouble; the next one in $((poll * pause)) s"
  for ((i = 0; i < pause; i++)); do sleep "$poll"; done # in parts, so that a signal is heard
  attempt=$((attempt + 1)) failures=$((failures + 1))
done
