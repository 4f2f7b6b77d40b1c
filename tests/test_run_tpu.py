"""run_tpu.sh without a cloud: its arguments, and what it would do.

What it does when machines, connections and runs break is in experiments/launch/.
"""

import os
import pathlib
import re
import shlex
import shutil
import stat
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPT = ROOT / 'run_tpu.sh'
ARGUMENTS = (
  '--name=scs',
  '--zone=us-west4-a',
  '--type=v5litepod-16',
  '--config=configs/cifar10.py:resnet20',
  '--workdir=gs://bucket/run',
)


@pytest.fixture
def launch(tmp_path):
  """Returns a function that runs the script where every call of gcloud is recorded, and fails."""
  gcloud = tmp_path / 'gcloud'
  gcloud.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(tmp_path / "calls"))}\nexit 1\n')
  gcloud.chmod(stat.S_IRWXU)

  def run(*words, **environment):
    result = subprocess.run(
      [SCRIPT, *words],
      env={**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}', **environment},
      capture_output=True,
      text=True,
      timeout=60,
      cwd=ROOT,
    )
    calls = tmp_path / 'calls'
    return result, calls.read_text() if calls.exists() else ''

  return run


def test_a_dry_run_prints_every_command_and_runs_none(launch):
  words = ('--spot', '--create-args=--labels=a=b c', '--project=p', '--args=--config.seed=3')
  result, calls = launch(*ARGUMENTS, *words, '--dry-run')
  assert result.returncode == 0, result.stderr
  assert not calls
  commands = [shlex.split(line) for line in result.stdout.splitlines()]
  order = [
    'wheel',
    'create',
    'scp',
    'state',
    'install',
    'start',
    'start',
    'follow',
    'await',
    'seen',
  ]
  found = [
    next((word for word in order if word in ' '.join(command).split()), None)
    for command in commands
  ]
  assert found == order
  create = commands[1]
  assert {'--spot', '--labels=a=b c', '--project=p', '--zone=us-west4-a'} <= set(create)


@pytest.mark.parametrize(
  ('accelerator', 'runtime'),
  [
    ('v3-8', 'tpu-ubuntu2204-base'),
    ('v4-32', 'tpu-ubuntu2204-base'),
    ('v5litepod-16', 'v2-alpha-tpuv5-lite'),
    ('v5p-8', 'v2-alpha-tpuv5'),
    ('v6e-256', 'v2-alpha-tpuv6e'),
  ],
)
def test_each_generation_gets_the_documented_software(launch, accelerator, runtime):
  result, _ = launch(*ARGUMENTS, f'--type={accelerator}', '--dry-run')
  assert f'--accelerator-type={accelerator} --runtime-version={runtime} ' in result.stdout
  result, _ = launch(*ARGUMENTS, f'--type={accelerator}', '--runtime=mine', '--dry-run')
  assert '--runtime-version=mine ' in result.stdout


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (ARGUMENTS[1:], '--name is missing'),
    (ARGUMENTS[:1] + ARGUMENTS[2:], '--zone is missing'),
    (ARGUMENTS[:2] + ARGUMENTS[3:], '--type is missing'),
    (ARGUMENTS[:3] + ARGUMENTS[4:], '--config is missing'),
    (ARGUMENTS[:4], '--workdir is missing'),
    ((*ARGUMENTS, '--color=red'), "unknown argument '--color=red'"),
    ((*ARGUMENTS, 'word'), "unknown argument 'word'"),
    ((*ARGUMENTS, '--name=-x'), "--name='-x' must be"),
    ((*ARGUMENTS, '--name=a b'), "--name='a b' must be"),
    ((*ARGUMENTS, '--zone=$(x)'), "--zone='$(x)' is no zone"),
    ((*ARGUMENTS, '--type=v9-8'), 'add --runtime=VERSION'),
    ((*ARGUMENTS, '--type=v5e-16'), 'gcloud calls it v5litepod-16'),
    ((*ARGUMENTS, '--workdir=/tmp/run', '--spot'), 'dies with a spot machine'),
    ((*ARGUMENTS, '--workdir=runs/a'), '--workdir=runs/a is relative'),
    ((*ARGUMENTS, '--attach', '--dry-run'), '--dry-run is for a launch'),
    ((*ARGUMENTS, '--config=configs/nothing.py'), 'there is no file configs/nothing.py'),
    ((*ARGUMENTS, '--logs='), '--logs is empty'),
    ((*ARGUMENTS, '--attempts=0'), '--attempts=0 must be a positive number'),
    ((*ARGUMENTS, '--data-copy=/home/me'), '--data-copy=/home/me must be in a bucket'),
    ((*ARGUMENTS, '--data-mount=gs://b'), "--data-mount=gs://b is no bucket's name"),
    ((*ARGUMENTS, '--data-copy=gs://a', '--data-mount=b'), 'not both'),
  ],
)
def test_wrong_arguments_are_told_before_anything_is_called(launch, words, message):
  result, calls = launch(*words)
  assert result.returncode == 2
  assert message in result.stderr
  assert len(result.stderr.splitlines()) == 1
  assert not calls


def test_wrong_seconds_are_told(launch):
  result, _ = launch(*ARGUMENTS, POLL_SECONDS='0.5')
  assert result.returncode == 2
  assert 'must be whole numbers' in result.stderr


def test_without_gcloud_it_says_what_to_install(launch, tmp_path):
  empty = tmp_path / 'empty'
  empty.mkdir()
  (empty / 'bash').symlink_to(shutil.which('bash') or '')
  result, _ = launch(*ARGUMENTS, PATH=str(empty))
  assert result.returncode == 2
  assert 'install the Google Cloud CLI' in result.stderr


def test_help_names_every_flag(launch):
  result, _ = launch('--help')
  assert result.returncode == 0
  parsed = SCRIPT.read_text().split('for argument in')[1].split('esac')[0]
  flags = set(re.findall(r'--[a-z-]+', parsed)) - {'--help'}
  assert len(flags) > 15
  for flag in flags:
    assert flag in result.stdout, flag


def test_shellcheck_is_silent():
  beside_python = f'{os.environ["PATH"]}:{pathlib.Path(sys.executable).parent}'
  shellcheck = shutil.which('shellcheck', path=beside_python)
  if not shellcheck:
    pytest.skip('shellcheck is not installed')
  assert not subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True).stdout
