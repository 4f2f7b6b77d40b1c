"""Stands in for `gcloud compute tpus`, as its documentation and its code describe it.

Knows `queued-resources create | describe | delete` and `tpu-vm describe | ssh | scp` with their flags; an
unknown flag is an error, exit code 2. State and plans are in the bed's `cloud.json`:

  resource   the queued resource, or None; `states` are those that `describe` will show
  creations  what each `create` does: a list of states, or the text of an error; the last one stays
  broken     commands that fail, e.g. {'describe': 3}: three times
  repeats    an operation of run_tpu.sh after which the connection to worker 0 is lost, once

As in gcloud, ssh and scp that exit with 255 are tried again, up to RETRIES times: a command may run
twice. With --worker=all every worker is served at the same time; the exit code is that of the first worker
that failed, and the output of all goes to stdout as it comes.
"""

import argparse
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

BED = pathlib.Path(os.environ['BED'])
HERE = pathlib.Path(__file__).parent
RETRIES, PAUSE = 10, 0.1  # gcloud itself waits for 5 s
SSH = ('-oStrictHostKeyChecking=no', '-oUserKnownHostsFile=/dev/null', '-oLogLevel=ERROR')


@contextlib.contextmanager
def cloud() -> Iterator[dict[str, Any]]:
  """Gives the state of the cloud, which is written back."""
  with (BED / 'cloud.json').open('r+') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    state = json.load(file)
    try:
      yield state
    finally:
      file.seek(0)
      file.truncate()
      json.dump(state, file)


def fail(command: str, message: str, code: int = 1) -> NoReturn:
  sys.stderr.write(f'ERROR: (gcloud.compute.tpus.{command}) {message}\n')
  sys.exit(code)


def no_resource(command: str, words: argparse.Namespace) -> NoReturn:
  path = f'projects/p/locations/{words.zone}/queuedResources/{words.name}'
  fail(command, f"NOT_FOUND: Resource '{path}' was not found")


def create(words: argparse.Namespace, given: list[str]) -> None:
  command = 'queued-resources.create'
  with cloud() as state:
    state['created'].append(given)
    if state['resource']:
      fail(command, f'ALREADY_EXISTS: Resource {words.name!r} already exists')
    plan = state['creations'][0]
    state['creations'] = state['creations'][1:] or [plan]
    if isinstance(plan, str):
      sys.stderr.write(f'ERROR: (gcloud.compute.tpus.{command}) {plan}\n')
    else:
      state['resource'] = {'name': words.name, 'states': plan}
  sys.exit(isinstance(plan, str))


def describe(words: argparse.Namespace) -> None:
  with cloud() as state:
    resource = state['resource']
    if not resource or resource['name'] != words.name:
      no_resource('queued-resources.describe', words)
    now, *rest = resource['states']
    if now == 'DELETED':
      state['resource'] = None
    elif words.format == 'value(state.state)':
      resource['states'] = rest or [now]
  if now == 'DELETED':
    no_resource('queued-resources.describe', words)
  print(now if words.format.startswith('value') else f'state:\n  state: {now}\n  {now}: for a test')


def delete(words: argparse.Namespace) -> None:
  command = 'queued-resources.delete'
  with cloud() as state:
    if not state['resource']:
      no_resource(command, words)
    if not words.force and state['resource']['states'][0] == 'ACTIVE':
      fail(command, 'FAILED_PRECONDITION: the node exists; use --force')
    state['resource'] = None
    state['deleted'] += 1
  for worker in state['workers']:
    shutil.rmtree(worker['home'])
    pathlib.Path(worker['home']).mkdir()


def chosen(words: argparse.Namespace, command: str) -> list[dict[str, Any]]:
  """Returns the workers that --worker means; fails if the machine is not there."""
  with cloud() as state:
    resource = state['resource']
    if not resource or resource['name'] != words.tpu:
      fail(command, f"NOT_FOUND: Resource 'projects/p/locations/z/nodes/{words.tpu}' was not found")
    if resource['states'][0] != 'ACTIVE':
      fail(command, f'This TPU has terminal state "{resource["states"][0]}" and is unusable.')
  if words.worker == 'all':
    return state['workers']
  if int(words.worker) >= len(state['workers']):
    fail(command, f'Invalid value for [--worker]: worker index {words.worker} is larger than valid')
  return [state['workers'][int(words.worker)]]


def connect(worker: dict[str, Any], flags: list[str], command: list[str]) -> int:
  """Runs a command on a worker and returns its exit code; 255 if the connection is lost."""
  if worker['port']:
    who = ['-F', 'none', '-i', str(BED / 'key'), '-p', str(worker['port']), '127.0.0.1']
    line = ['ssh', '-T', *SSH, *flags, *who, '--', *command]
  else:
    # ssh, too, joins the words with spaces and gives them to a shell.
    line = [sys.executable, '-SE', str(HERE / 'link.py'), worker['shell'], ' '.join(command)]
  code = subprocess.run(line).returncode
  return code if code >= 0 else 255


def repeated(command: str) -> bool:
  """Returns whether the connection is lost after this command, when the run has ended."""
  with cloud() as state:
    found = state['repeats'] in command.split()
    if found:
      state['repeats'] = None
      time.sleep(1)
  return found


def send(worker: dict[str, Any], words: argparse.Namespace) -> int:
  """Copies to or from a worker."""
  *sources, target = [
    path.split(':', 1) if ':' in path.split('/')[0] else path for path in words.paths
  ]
  with_home = lambda path: path if isinstance(path, str) else os.path.join(worker['home'], path[1])
  remote = lambda path: path if isinstance(path, str) else f'127.0.0.1:{path[1]}'
  recurse = ['-r'] if words.recurse else []
  if worker['port']:
    who = ['-F', 'none', '-i', str(BED / 'key'), '-P', str(worker['port'])]
    line = ['scp', *recurse, *SSH, *words.scp_flag, *who, *map(remote, sources), remote(target)]
  else:
    line = ['cp', *recurse, *map(with_home, sources), with_home(target)]
  return 255 if subprocess.run(line, stdout=subprocess.DEVNULL).returncode else 0


def serve(words: argparse.Namespace, kind: str) -> None:
  """Runs ssh or scp on the chosen workers at the same time."""
  command = f'tpu-vm.{kind}'
  targets = chosen(words, command)
  several = len(targets) > 1
  codes = [0] * len(targets)
  sys.stderr.write(f'Using {kind} batch size of {len(targets)}.\n')

  def attempt(index: int, worker: dict[str, Any]) -> None:
    for number in range(RETRIES):
      sys.stderr.write(f'{kind.upper()}: Attempting to connect to worker {index}...\n')
      if kind == 'ssh':
        codes[index] = connect(worker, words.ssh_flag, words.command.split(' '))
        if index == 0 and number == 0 and repeated(words.command):
          codes[index] = 255
      else:
        codes[index] = send(worker, words)
      if codes[index] != 255 or number == RETRIES - 1:
        break
      sys.stderr.write(f'Retrying: {kind.upper()} command error: exited with return code [255].\n')
      time.sleep(PAUSE)
    if codes[index] and several:
      said = f'##### Command execution on worker {index} failed with exit status {codes[index]}.'
      sys.stderr.write(f'{said} Continuing.\n')

  threads = [threading.Thread(target=attempt, args=pair) for pair in enumerate(targets)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  code = next((code for code in codes if code), 0)
  if code == 255:
    fail(command, f'[/usr/bin/{kind}] exited with return code [255].', 255)
  sys.exit(code)


def parser() -> argparse.ArgumentParser:
  """Returns the parser of the documented flags."""
  top = argparse.ArgumentParser(prog='gcloud', allow_abbrev=False)
  groups = top.add_subparsers(dest='group', required=True)

  def command(verbs: Any, verb: str, *flags: str, switches: tuple[str, ...] = ()) -> Any:
    added = verbs.add_parser(verb, allow_abbrev=False)
    for flag in ('--project', *flags):
      added.add_argument(flag)
    added.add_argument('--zone', required=True)
    for flag in ('--quiet', *switches):
      added.add_argument(flag, action='store_true')
    return added

  queued = groups.add_parser('queued-resources').add_subparsers(dest='verb', required=True)
  made = command(
    queued,
    'create',
    *(
      '--network',
      '--subnetwork',
      '--service-account',
      '--labels',
      '--tags',
      '--metadata',
      '--scopes',
    ),
    switches=('--spot', '--reserved', '--internal-ips'),
  )
  for flag in ('--node-id', '--accelerator-type', '--runtime-version'):
    made.add_argument(flag, required=True)
  made.add_argument('name')
  command(queued, 'describe', '--format').add_argument('name')
  command(queued, 'delete', switches=('--force', '--async')).add_argument('name')

  nodes = groups.add_parser('tpu-vm').add_subparsers(dest='verb', required=True)
  command(nodes, 'describe', '--format').add_argument('tpu')
  ssh = command(nodes, 'ssh', '--command')
  ssh.add_argument('--ssh-flag', action='append', default=[])
  ssh.add_argument('tpu')
  scp = command(nodes, 'scp', switches=('--recurse', '--compress'))
  scp.add_argument('--scp-flag', action='append', default=[])
  scp.add_argument('paths', nargs='+')
  for verb in (ssh, scp):
    verb.add_argument('--worker', default='0')
  return top


def main() -> None:
  given = sys.argv[1:]
  with (BED / 'calls').open('a') as file:
    file.write(json.dumps(given) + '\n')
  if given[:2] != ['compute', 'tpus']:
    fail(' '.join(given[:2]), 'Invalid choice', 2)
  words = parser().parse_args(given[2:])
  with cloud() as state:
    broken = state['broken'].get(words.verb, 0)
    if broken:
      state['broken'][words.verb] = broken - 1
  if broken:
    fail(f'{words.group}.{words.verb}', 'There was a problem refreshing your current auth tokens')
  if words.group == 'queued-resources':
    {'create': lambda w: create(w, given[3:]), 'describe': describe, 'delete': delete}[words.verb](
      words
    )
  elif words.verb == 'describe':
    words.worker = 'all'
    print(len(chosen(words, 'tpu-vm.describe')))
  else:
    if words.verb == 'scp':
      words.tpu = next(
        p for p in (words.paths[-1], words.paths[0]) if ':' in p.split('/')[0]
      ).split(':')[0]
    serve(words, words.verb)


if __name__ == '__main__':
  main()
