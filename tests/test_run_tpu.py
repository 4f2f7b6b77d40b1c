"""run_tpu.sh against a stand-in gcloud that records its calls and fails as it is told to."""

import json
import os
import pathlib
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
GCLOUD = f"""#!{sys.executable}
import json, os, pathlib, sys
folder, words = pathlib.Path(os.environ['STAND_IN']), sys.argv[1:]
with (folder / 'calls').open('a') as calls:
  calls.write(json.dumps(words) + '\\n')
def following(name):  # what comes next; the last goes on for ever
  path = folder / name
  left = json.loads(path.read_text())
  path.write_text(json.dumps(left[1:] or left))
  return left[0]
if 'describe' in words:
  state = following('states')
  if state == 'ABSENT':
    sys.exit(1)
  print(state)
if any('do sleep' in word for word in words):
  code = following('endings')
  print('epoch 1.00')
  if code == 'lost':
    sys.exit(255)
  print(f'\\n{{code}}')
for kind in ('create', 'scp', 'delete'):
  if kind in words and (folder / f'fail_{{kind}}').exists():
    (folder / f'fail_{{kind}}').unlink()
    sys.exit(1)
"""


@pytest.fixture
def stand_in(tmp_path):
  """A folder whose bin/ has a gcloud and a python3 that builds no wheel."""
  commands = tmp_path / 'bin'
  commands.mkdir()
  for name, text in (('gcloud', GCLOUD), ('python3', '#!/bin/sh\nexit 0\n')):
    (commands / name).write_text(text)
    (commands / name).chmod(stat.S_IRWXU)
  return tmp_path


def launch(stand_in, *words, states=('ACTIVE',), endings=('0',)):
  (stand_in / 'states').write_text(json.dumps(states))
  (stand_in / 'endings').write_text(json.dumps(endings))
  environment = {
    **os.environ,
    'STAND_IN': str(stand_in),
    'POLL_SECONDS': '0',
    'PATH': f'{stand_in / "bin"}:{os.environ["PATH"]}',
  }
  result = subprocess.run(
    [SCRIPT, *words], env=environment, capture_output=True, text=True, timeout=60, cwd=ROOT
  )
  path = stand_in / 'calls'
  calls = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
  return result, [' '.join(call) for call in calls]


def count(calls, text):
  return sum(text in call for call in calls)


def test_makes_waits_installs_launches_and_follows(stand_in):
  result, calls = launch(
    stand_in,
    *ARGUMENTS,
    '--spot',
    '--data-copy=gs://bucket/data',
    '--args=--config.seed=3',
    states=['ABSENT', 'WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE'],
  )
  assert result.returncode == 0, result.stderr
  assert 'epoch 1.00' in result.stdout
  (create,) = [call for call in calls if 'create' in call]
  assert '--accelerator-type=v5litepod-16' in create
  assert '--spot' in create
  assert '--zone=us-west4-a' in create
  (start,) = [call for call in calls if 'scs_jax.main' in call]
  assert '--worker=all' in start
  assert '--config=configs/cifar10.py:resnet20 --workdir=gs://bucket/run --config.seed=3' in start
  assert count(calls, 'gs://bucket/data') == 1
  order = [next(i for i, call in enumerate(calls) if w in call) for w in ('create', 'scp', 'main')]
  assert order == sorted(order)


def test_reuses_a_machine_that_is_there(stand_in):
  result, calls = launch(stand_in, *ARGUMENTS)
  assert result.returncode == 0
  assert not count(calls, 'create')
  assert not count(calls, 'delete')


def test_relaunches_after_preemption_on_a_new_machine(stand_in):
  result, calls = launch(
    stand_in,
    *ARGUMENTS,
    '--spot',
    states=['ACTIVE', 'SUSPENDED', 'ABSENT', 'ACTIVE'],
    endings=['lost', '0'],
  )
  assert result.returncode == 0, result.stderr
  assert count(calls, 'scs_jax.main') == 2
  assert count(calls, 'queued-resources delete') == 1
  assert count(calls, 'queued-resources create') == 1


def test_a_lost_connection_is_not_a_lost_run(stand_in):
  result, calls = launch(stand_in, *ARGUMENTS, endings=['lost', '0'])
  assert result.returncode == 0
  assert not count(calls, 'create')


@pytest.mark.parametrize('what', ['scp', 'create', 'delete'])
def test_a_command_that_fails_is_tried_again(stand_in, what):
  (stand_in / f'fail_{what}').touch()
  states = {'create': ['ABSENT', 'ABSENT', 'ACTIVE'], 'delete': ['FAILED', 'FAILED', 'ACTIVE']}
  result, calls = launch(stand_in, *ARGUMENTS, states=states.get(what, ['ACTIVE']))
  assert result.returncode == 0, result.stderr
  assert count(calls, what) >= 2


def test_a_run_that_fails_by_itself_is_not_launched_again(stand_in):
  result, calls = launch(stand_in, *ARGUMENTS, endings=['1'])
  assert result.returncode != 0
  assert 'ended with exit code 1' in result.stderr
  assert count(calls, 'scs_jax.main') == 1


def test_a_machine_that_cannot_be_made_is_given_up(stand_in):
  gcloud = stand_in / 'bin' / 'gcloud'
  gcloud.write_text(GCLOUD + "sys.exit('create' in words)\n")
  result, calls = launch(stand_in, *ARGUMENTS, states=['ABSENT'])
  assert result.returncode == 2
  assert 'could not be created' in result.stderr
  assert count(calls, 'create') == 10


def test_gives_up_after_so_many_attempts(stand_in):
  result, calls = launch(stand_in, *ARGUMENTS, '--attempts=3', endings=['lost'])
  assert result.returncode != 0
  assert 'gave up after 3 attempts' in result.stderr
  assert count(calls, 'scs_jax.main') == 3


def test_delete_and_dry_run(stand_in):
  result, calls = launch(stand_in, '--name=scs', '--zone=z', '--delete')
  assert result.returncode == 0
  assert calls == ['compute tpus queued-resources delete scs --force --quiet --zone=z']
  result, calls = launch(stand_in, *ARGUMENTS, '--dry-run')
  assert result.returncode == 0, result.stderr
  assert len(calls) == 1  # that of the deletion
  for word in ('create', 'pip wheel', 'scp', 'scs_jax.main', 'tail'):
    assert word in result.stdout


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (ARGUMENTS[1:], '--name is missing'),
    ((*ARGUMENTS, '--color=red'), "unknown argument '--color=red'"),
    ((*ARGUMENTS, '--workdir=/tmp/run', '--spot'), 'dies with a spot machine'),
    ((*ARGUMENTS, '--config=configs/nothing.py'), 'there is no file configs/nothing.py'),
    ((*ARGUMENTS, '--attempts=0'), '--attempts=0 must be a positive number'),
  ],
)
def test_wrong_arguments_are_told(stand_in, words, message):
  result, calls = launch(stand_in, *words)
  assert result.returncode == 2
  assert message in result.stderr
  assert not calls


@pytest.mark.skipif(not shutil.which('shellcheck'), reason='shellcheck is not installed')
def test_shellcheck_is_silent():
  assert not subprocess.run(['shellcheck', SCRIPT], capture_output=True, text=True).stdout
