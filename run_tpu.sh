#!/usr/bin/env bash
# Trains on a Cloud TPU: creates or reuses a queued resource, installs scs_jax on every worker,
# launches, follows worker 0's log, and relaunches after preemption until the run has ended.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: ./run_tpu.sh --name=NAME --zone=ZONE --type=TYPE --config=CONFIG --workdir=gs://BUCKET/DIR [options]
       ./run_tpu.sh --name=NAME --zone=ZONE --delete

  --name=NAME         of the queued resource and its node
  --zone=ZONE         e.g. us-west4-a
  --type=TYPE         e.g. v5litepod-16
  --config=CONFIG     e.g. configs/cifar10.py:resnet20
  --workdir=DIR       where the run lives; a bucket, so that it outlives a preempted machine
  --runtime=VERSION   of the TPU software, v2-alpha-tpuv5-lite
  --project=PROJECT   gcloud's own otherwise
  --spot              cheaper, may be taken away at any time
  --data-copy=gs://…  copied to ~/tensorflow_datasets on every worker
  --data-mount=NAME   a bucket that is mounted read-only (gcsfuse) as ~/tensorflow_datasets
  --args=ARGS         more flags of scs_jax.main, e.g. '--config.batch_size=1024'
  --attempts=N        launches at most, 100
  --delete            deletes the resource and ends
  --dry-run           prints every command and runs none

What stops a run by its own fault (exit code other than 0) is not launched again.
USAGE
}

fail() {
  echo "run_tpu.sh: $*" >&2
  exit 2
}

name='' zone='' type='' config='' workdir='' project='' data_copy='' data_mount='' args=''
runtime=v2-alpha-tpuv5-lite attempts=100 spot='' delete='' dry=''
for argument in "$@"; do
  value=${argument#*=}
  case $argument in
    --name=*) name=$value ;;
    --zone=*) zone=$value ;;
    --type=*) type=$value ;;
    --config=*) config=$value ;;
    --workdir=*) workdir=$value ;;
    --runtime=*) runtime=$value ;;
    --project=*) project=$value ;;
    --data-copy=*) data_copy=$value ;;
    --data-mount=*) data_mount=$value ;;
    --args=*) args=$value ;;
    --attempts=*) attempts=$value ;;
    --spot) spot=yes ;;
    --delete) delete=yes ;;
    --dry-run) dry=yes ;;
    --help | -h) usage && exit 0 ;;
    *) fail "unknown argument '$argument'; see --help" ;;
  esac
done
[[ -n $name ]] || fail "--name is missing; see --help"
[[ -n $zone ]] || fail "--zone is missing; see --help"
if [[ -z $delete ]]; then
  [[ -n $type ]] || fail "--type is missing, e.g. --type=v5litepod-16"
  [[ -n $config ]] || fail "--config is missing, e.g. --config=configs/imagenet.py"
  [[ -n $workdir ]] || fail "--workdir is missing, e.g. --workdir=gs://bucket/run"
  [[ -f ${config%%:*} ]] || fail "--config=$config: there is no file ${config%%:*} here"
  [[ $attempts =~ ^[1-9][0-9]*$ ]] || fail "--attempts=$attempts must be a positive number"
  if [[ -n $spot && $workdir != gs://* ]]; then
    fail "--workdir=$workdir dies with a spot machine: use gs://…"
  fi
fi
[[ -n $dry ]] || command -v gcloud > /dev/null || fail "gcloud is not on PATH: install the Google Cloud CLI"
poll_seconds=${POLL_SECONDS:-30}

scope=(--zone="$zone")
[[ -z $project ]] || scope+=(--project="$project")

run() {
  if [[ -n $dry ]]; then
    printf '%q ' "$@" && echo
  else
    "$@"
  fi
}

tpus() { run gcloud compute tpus "$@" "${scope[@]}"; }
on() { tpus tpu-vm ssh "$name" --worker="$1" --command="$2"; }

state() {
  if [[ -n $dry ]]; then
    echo ACTIVE
  else
    gcloud compute tpus queued-resources describe "$name" "${scope[@]}" \
      --format='value(state.state)' 2> /dev/null || echo ABSENT
  fi
}

delete_resource() { tpus queued-resources delete "$name" --force --quiet; }

# Waits for the machine; makes it if there is none, and anew if it was taken away.
acquire() {
  local now failures=0 create=(
    queued-resources create "$name" --node-id="$name" --accelerator-type="$type"
    --runtime-version="$runtime"
  )
  [[ -z $spot ]] || create+=(--spot)
  [[ -z $dry ]] || tpus "${create[@]}"
  while true; do
    now=$(state)
    case $now in
      ACTIVE) return ;;
      ABSENT)
        if ! tpus "${create[@]}"; then
          ((++failures < 10)) || fail "$name could not be created, see above"
        fi
        ;;
      SUSPENDED | SUSPENDING | FAILED) delete_resource || true ;;
      *) echo "run_tpu.sh: $name is $now" ;;
    esac
    sleep "$poll_seconds"
  done
}

# Each command says "|| return": in a condition, bash goes on after one that fails.
install() {
  local wheels
  wheels=$(mktemp -d) || return
  run python3 -m pip wheel --quiet --no-deps --wheel-dir="$wheels" "$(dirname "$0")" || return
  on all 'mkdir -p ~/scs_jax && rm -rf ~/scs_jax/configs ~/scs_jax/tmp.*' || return
  tpus tpu-vm scp --recurse "$wheels" "$(dirname "$0")/configs" "$name:scs_jax/" --worker=all || return
  # uv, because a TPU machine's own Python may be older than the one we need.
  on all "cd ~/scs_jax && PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv && \
~/.local/bin/uv venv --quiet --allow-existing --python 3.12 venv && \
~/.local/bin/uv pip install --quiet --python venv/bin/python 'jax[tpu]' \
\"\$(ls $(basename "$wheels")/*.whl)[train,gcs]\"" || return
  if [[ -n $data_copy ]]; then
    on all "mkdir -p ~/tensorflow_datasets && \
gcloud storage rsync --recursive '$data_copy' ~/tensorflow_datasets" || return
  elif [[ -n $data_mount ]]; then
    on all "mkdir -p ~/tensorflow_datasets && (mountpoint -q ~/tensorflow_datasets || \
gcsfuse -o ro --implicit-dirs '$data_mount' ~/tensorflow_datasets)" || return
  fi
}

# Starts the run on every worker, detached, so that it outlives the connection.
launch() {
  on all "cd ~/scs_jax && rm -f ended && (setsid nohup bash -c '
    TFDS_DATA_DIR=~/tensorflow_datasets venv/bin/python -m scs_jax.main --distributed \
--config=$config --workdir=$workdir $args
    echo \$? > ended' > log 2>&1 < /dev/null &)"
}

# Shows worker 0's log until the run has ended, and prints how it did as the last line.
follow() {
  on 0 "cd ~/scs_jax && tail -n +1 -F log & shown=\$!
    until [ -f ~/scs_jax/ended ]; do sleep 5; done; kill \$shown; echo; cat ~/scs_jax/ended"
}

if [[ -n $delete ]]; then
  delete_resource
  exit
fi
last=$(mktemp)
for ((attempt = 1; attempt <= attempts; attempt++)); do
  acquire
  if install && launch; then
    if follow | tee "$last" && [[ -n $dry || $(tail -n 1 "$last") =~ ^[0-9]+$ ]]; then
      [[ -z $dry ]] || exit 0
      code=$(tail -n 1 "$last")
      if [[ $code -eq 0 ]]; then
        echo "run_tpu.sh: the run has ended; --delete gives the machine back"
        exit 0
      fi
      [[ $(state) != ACTIVE ]] || fail "the run ended with exit code $code, see its log above"
    fi
  fi
  echo "run_tpu.sh: attempt $attempt: the connection or the machine was lost; looking again"
  sleep "$poll_seconds"
done
fail "gave up after $attempts attempts; the run goes on from its last checkpoint with the same command"
