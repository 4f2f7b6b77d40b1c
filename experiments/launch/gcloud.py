"""Stands in for `gcloud compute tpus`, as its documentation and its code describe it.

It knows `queued-resources create | describe | delete` and `tpu-vm describe | ssh | scp` with their
flags; an unknown flag ends with exit code 2. If the cloud's state names a real gcloud, the call is
recorded and handed over to it; it then talks to `api.py`.

As in gcloud, ssh and scp that exit with 255 are tried again, ten times: a command may run twice.
With --worker=all the workers are served at the same time. The output of all comes as it is written,
and the exit code is that of the first worker that failed.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from typing import Any, NoReturn

from experiments.launch import cloud
from experiments.launch.cloud import BED

HERE = pathlib.Path(__file__).parent
ATTEMPTS, PAUSE_SECONDS = 10, 0.1  # gcloud waits for 5 s
SSH = ('-oStrictHostKeyChecking=no', '-oUserKnownHostsFile=/dev/null', '-oLogLevel=ERROR')
CREATE = ('network', 'subnetwork', 'service-account', 'labels', 'tags', 'metadata', 'scopes')


def fail(command: str, message: str, code: int = 1) -> NoReturn:
  sys.stderr.write(f'ERROR: (gcloud.compute.tpus.{command}) {message}\n')
  sys.exit(code)


def queued_resources(words: argparse.Namespace) -> None:
  """Runs create, describe or delete."""
  command = f'queued-resources.{words.verb}'
  if words.verb == 'create':
    if error := cloud.create(words.name, words.zone):
      fail(command, error)
    return
  now = cloud.look(words.name, words.zone)
  if not now:
    path = f'projects/p/locations/{words.zone}/queuedResources/{words.name}'
    fail(command, f"NOT_FOUND: Resource '{path}' was not found")
  if words.verb == 'describe':
    print(now if words.format.startswith('value') else f'state:\n  state: {now}')
  elif now == 'ACTIVE' and not words.force:
    fail(command, 'FAILED_PRECONDITION: the node exists; use --force')
  else:
    cloud.delete()


def chosen(words: argparse.Namespace, command: str) -> list[dict[str, Any]]:
  """Returns the workers that --worker means; fails if the machine is not there."""
  with cloud.state() as state:
    workers = state['workers']
  if not cloud.is_usable(words.tpu):
    fail(command, f"NOT_FOUND: Resource 'projects/p/locations/z/nodes/{words.tpu}' was not found")
  if words.worker == 'all':
    return workers
  if int(words.worker) >= len(workers):
    fail(command, f'Invalid value for [--worker]: worker index {words.worker} is larger than valid')
  return [workers[int(words.worker)]]


def connect(worker: dict[str, Any], flags: list[str], command: list[str]) -> int:
  """Runs a command on a worker and returns its exit code; 255 if the connection is lost."""
  if worker['port']:
    who = ['-F', 'none', '-i', str(BED / 'key'), '-p', str(worker['port']), worker['address']]
    line = ['ssh', '-T', *SSH, *flags, *who, '--', *command]
  else:
    # ssh, too, joins the words with spaces and gives them to a shell.
    line = [sys.executable, '-SE', str(HERE / 'link.py'), worker['shell'], ' '.join(command)]
  code = subprocess.run(line).returncode
  return code if code >= 0 else 255


def is_remote(path: str) -> bool:
  return ':' in path.split('/')[0]


def send(worker: dict[str, Any], words: argparse.Namespace) -> int:
  """Copies to or from a worker; returns 255 if that fails, and 0 otherwise."""
  recurse = ['-r'] if words.recurse else []
  before = f'{worker["address"]}:' if worker['port'] else f'{worker["home"]}/'
  paths = [before + path.split(':', 1)[1] if is_remote(path) else path for path in words.paths]
  if worker['port']:
    who = ['-F', 'none', '-i', str(BED / 'key'), '-P', str(worker['port'])]
    line = ['scp', *recurse, *SSH, *words.scp_flag, *who, *paths]
  else:
    line = ['cp', *recurse, *paths]
  return 255 if subprocess.run(line, stdout=subprocess.DEVNULL).returncode else 0


def is_repeated(command: str) -> bool:
  """Returns whether the connection is lost after this command, when the run has ended."""
  with cloud.state() as state:
    found = state['repeats'] in command.split()
    if found:
      state['repeats'] = None
  time.sleep(found)
  return found


def serve(words: argparse.Namespace) -> None:
  """Runs ssh or scp on the chosen workers at the same time."""
  command, kind = f'tpu-vm.{words.verb}', words.verb.upper()
  targets = chosen(words, command)
  codes = [0] * len(targets)
  sys.stderr.write(f'Attempting to {kind} into 1 nodes with a total of {len(targets)} workers.\n')

  def attempt(index: int, worker: dict[str, Any]) -> None:
    time.sleep(words.worker == 'all' and os.environ.get('LATE') == str(index))
    for number in range(ATTEMPTS):
      sys.stderr.write(f'{kind}: Attempting to connect to worker {index}...\n')
      if kind == 'SCP':
        codes[index] = send(worker, words)
      else:
        codes[index] = connect(worker, words.ssh_flag, words.command.split(' '))
        if index == number == 0 and is_repeated(words.command):
          codes[index] = 255
      if codes[index] != 255:
        break
      if number < ATTEMPTS - 1:
        sys.stderr.write(f'Retrying: {kind} command error: exited with return code [255].\n')
        time.sleep(PAUSE_SECONDS)
    if codes[index] and len(targets) > 1:
      said = f'##### Command execution on worker {index} failed with exit status {codes[index]}.'
      sys.stderr.write(f'{said} Continuing.\n')

  threads = [threading.Thread(target=attempt, args=pair) for pair in enumerate(targets)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  code = next((code for code in codes if code), 0)
  if code == 255:
    fail(command, f'[/usr/bin/{words.verb}] exited with return code [255].', 255)
  sys.exit(code)


def parser() -> argparse.ArgumentParser:
  """Returns the parser of the documented flags."""
  top = argparse.ArgumentParser(prog='gcloud compute tpus', allow_abbrev=False)
  groups = top.add_subparsers(dest='group', required=True)

  def add(
    verbs: Any, verb: str, values: tuple[str, ...] = (), switches: tuple[str, ...] = ()
  ) -> Any:
    added = verbs.add_parser(verb, allow_abbrev=False)
    added.add_argument('--zone', required=True)
    for flag in ('project', *values):
      added.add_argument(f'--{flag}')
    for flag in ('quiet', *switches):
      added.add_argument(f'--{flag}', action='store_true')
    return added

  queued = groups.add_parser('queued-resources').add_subparsers(dest='verb', required=True)
  create = add(queued, 'create', CREATE, ('spot', 'reserved', 'internal-ips', 'async'))
  for flag in ('--node-id', '--accelerator-type', '--runtime-version'):
    create.add_argument(flag, required=True)
  create.add_argument('name')
  add(queued, 'describe', ('format',)).add_argument('name')
  add(queued, 'delete', switches=('force', 'async')).add_argument('name')

  nodes = groups.add_parser('tpu-vm').add_subparsers(dest='verb', required=True)
  describe = add(nodes, 'describe', ('format',))
  ssh = add(nodes, 'ssh', ('command',))
  ssh.add_argument('--ssh-flag', action='append', default=[])
  scp = add(nodes, 'scp', switches=('recurse', 'compress'))
  scp.add_argument('--scp-flag', action='append', default=[])
  scp.add_argument('paths', nargs='+')
  for verb in (describe, ssh):
    verb.add_argument('tpu')
  for verb in (ssh, scp):
    verb.add_argument('--worker', default='0')
  return top


def hand_over(gcloud: str, given: list[str]) -> NoReturn:
  """Becomes the real gcloud, with the API that `api.py` serves."""
  api = (BED / 'api').read_text()
  (BED / 'access_token').write_text('none is needed')
  settings = {
    'CORE_PROJECT': 'p',
    'AUTH_ACCESS_TOKEN_FILE': str(BED / 'access_token'),
    'API_ENDPOINT_OVERRIDES_TPU': f'{api}/',
    'API_ENDPOINT_OVERRIDES_COMPUTE': f'{api}/compute/v1/',
    'API_ENDPOINT_OVERRIDES_OSLOGIN': f'{api}/',
  }
  settings = {f'CLOUDSDK_{name}': value for name, value in settings.items()}
  os.execve(gcloud, [gcloud, *given], {**os.environ, **settings})


def main() -> None:
  given = sys.argv[1:]
  with (BED / 'calls').open('a') as file:
    file.write(json.dumps(given) + '\n')
  if given[:2] != ['compute', 'tpus']:
    fail(' '.join(given), 'Invalid choice', 2)
  words = parser().parse_args(given[2:])
  with cloud.state() as state:
    broken = state['broken'].get(words.verb, 0)
    if broken:
      state['broken'][words.verb] = broken - 1
    if words.verb == 'create':
      state['created'].append(given)
  if broken:
    fail(f'{words.group}.{words.verb}', 'There was a problem refreshing your current auth tokens')
  if state['gcloud']:
    hand_over(state['gcloud'], given)
  if words.group == 'queued-resources':
    queued_resources(words)
  elif words.verb == 'describe':
    words.worker = 'all'
    print(len(chosen(words, 'tpu-vm.describe')))
  else:
    if words.verb == 'scp':
      words.tpu = next(filter(is_remote, reversed(words.paths))).split(':')[0]
    serve(words)


if __name__ == '__main__':
  main()
