"""A cloud on this machine: `run_tpu.sh` itself, and workers with a home and a shell each.

The workers are reached through OpenSSH's server on the loopback device or, where there is none,
through `link.py`. gcloud is `gcloud.py`, or the real one, with `api.py` in the place of Google's
service. The training is `program.py`.
"""

import contextlib
import getpass
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from experiments.launch import cloud

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
SSHD = shutil.which('sshd', path=f'{os.environ["PATH"]}:/usr/sbin')
GCLOUD = shutil.which('gcloud')
SFTP = pathlib.Path('/usr/lib/openssh/sftp-server')
ARGUMENTS = {
  'name': 'scs',
  'zone': 'us-west4-a',
  'type': 'v5litepod-16',
  'config': 'configs/quickstart.py',
  'workdir': 'gs://bucket/run',
}
PATIENCE_SECONDS = 180

# What is on the PATH of this machine, and of a worker.
PIP = f"""#!/bin/sh
# Builds a wheel, or installs uv.
[ "$1" != -c ] || exec {sys.executable} -SE "$@"
for word; do
  case $word in --wheel-dir=*) touch "${{word#*=}}/scs_jax-0-py3-none-any.whl" ;; esac
done
[ ! -e "$BED/no_wheel" ] || {{ echo 'error: subprocess-exited-with-error' >&2; exit 1; }}
case $* in *' uv') mkdir -p ~/.local/bin && cp "$BED/uv" ~/.local/bin/uv ;; esac
"""
UV = """#!/bin/sh
if [ "$1" = venv ]; then
  mkdir -p venv/bin && ln -sf "$BED/training" venv/bin/python
elif [ -s "$BED/failing_installs" ]; then
  sed -i 1d "$BED/failing_installs"
  echo 'error: Failed to fetch: connection reset' >&2 && exit 2
else
  for word; do case $word in *.whl*) [ -f "${word%[*}" ] || exit 3 ;; esac; done
fi
"""
RECORDS = """#!/bin/sh
{ for word; do printf '%s|' "$word"; done; echo; } >> "$BED/data_calls"
"""


class Launcher:
  """A `run_tpu.sh` that runs.

  Args:
    words: its command line.
    file: gets what it prints.
    environment: its environment.
    folder: where it starts.
  """

  def __init__(
    self, words: list[str], file: pathlib.Path, environment: dict[str, str], folder: pathlib.Path
  ):
    self._file = file
    with file.open('wb') as output:
      self.process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        cwd=folder,
        start_new_session=True,
      )

  def said(self) -> str:
    return self._file.read_text(errors='replace')

  def wait_for(self, text: str) -> None:
    wait_for(lambda: text in self.said() or self.process.poll() is not None)
    assert text in self.said(), self.said()

  def finish(self, code: int = 0) -> str:
    """Waits for the end, whose exit code must be `code`, and returns what was printed."""
    wait_for(lambda: self.process.poll() is not None)
    found = self.process.returncode
    assert found == code, f'exit code {found}, not {code}: {self.said()}'
    return self.said()

  def kill(self) -> None:
    self.process.kill()
    self.process.wait()


def wait_for(condition: Callable[[], bool]) -> None:
  """Waits until `condition` is true, but not for ever."""
  limit = time.monotonic() + PATIENCE_SECONDS
  while not condition():
    assert time.monotonic() < limit, f'waited for {PATIENCE_SECONDS} s'
    time.sleep(0.02)


def free_port() -> int:
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


class Bed:
  """Cloud, workers and launchers in a folder.

  Args:
    folder: an empty folder.
    sshd: reaches the workers through OpenSSH's server, otherwise through `link.py`.
    gcloud: the path of a real gcloud. It needs sshd, and a user who may listen on port 22.
  """

  def __init__(self, folder: pathlib.Path, sshd: bool, gcloud: str | None = None):
    self.folder, self._sshd, self._gcloud = folder, sshd, gcloud
    self._launchers = 0
    for name, text in (('python3', PIP), ('gcloud', self._module('gcloud'))):
      self._executable(f'bin/{name}', text)
    for name, text in (
      ('python3', PIP),
      ('gcloud', RECORDS),
      ('hostname', '#!/bin/sh\necho "${HOME##*/}"\n'),
    ):
      self._executable(f'worker_bin/{name}', text)
    self._executable('uv', UV)
    program = f'#!/bin/sh\nexec {sys.executable} -SE {HERE / "program.py"} "$@"\n'
    self._executable('training', program)
    self._workers = [self._worker(index) for index in (0, 1)]
    self.cloud = {
      'resource': None,
      'creations': [['ACTIVE']],
      'broken': {},
      'repeats': None,
      'created': [],
      'deleted': 0,
      'gcloud': gcloud,
      'workers': self._workers,
    }
    if sshd:
      for name in ('host', 'key'):
        words = ['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', str(folder / name)]
        subprocess.run(words, check=True)
      for worker in self._workers:
        self._listen(worker)
    if gcloud:
      api = self._executable('bin/api', self._module('api'))
      subprocess.Popen([api], env={**os.environ, 'BED': str(folder)})
      wait_for((folder / 'api').exists)

  # ----------------------------------------------------------------------------------- The cloud

  @property
  def cloud(self) -> dict[str, Any]:
    """The state of the cloud, as `gcloud.py` describes it; a copy."""
    with cloud.state(self.folder) as state:
      return state

  @cloud.setter
  def cloud(self, values: dict[str, Any]) -> None:
    with cloud.state(self.folder) as state:
      state.update(values)

  def plan(self, *creations: Any, **broken: int) -> None:
    """Sets what each `create` does, and how often commands fail."""
    self.cloud = {'creations': creations or [['ACTIVE']], 'broken': broken}

  def calls(self, *words: str) -> list[list[str]]:
    """Returns the calls of gcloud that have all these words."""
    path = self.folder / 'calls'
    lines = path.read_text().splitlines() if path.exists() else []
    return [call for call in map(json.loads, lines) if set(words) <= set(call)]

  def called(self, operation: str) -> list[list[str]]:
    """Returns the calls of a command of gcloud, or of an operation of run_tpu.sh on the workers."""
    return [call for call in self.calls() if operation in ' '.join(call).split()]

  def preempt(self) -> None:
    """Takes the machine away: everything on it dies, and the disks are gone."""
    with cloud.state(self.folder) as state:
      state['resource']['states'] = ['SUSPENDING', 'SUSPENDED']
    for worker in self._workers:
      self._kill_processes(worker)
      shutil.rmtree(worker['home'])
      pathlib.Path(worker['home']).mkdir()

  # --------------------------------------------------------------------------------- The workers

  def home(self, worker: int = 0) -> pathlib.Path:
    return pathlib.Path(self._workers[worker]['home'])

  def reboot(self, worker: int) -> None:
    """Kills everything on a worker, whose disk stays."""
    self._kill_processes(self._workers[worker])

  def cut(self) -> None:
    """Ends every connection to the workers; what runs there is not told."""
    listeners = self._listeners()
    for process in _processes():
      is_link = str(HERE / 'link.py') in process.words and process.bed == str(self.folder)
      if is_link or process.parent in listeners:
        _kill(process.id)

  def on_worker(self) -> list[str]:
    """Returns the command lines of all processes on workers."""
    return [' '.join(p.words) for p in _processes() if p.home in self._homes()]

  def kill_on_worker(self, word: str) -> None:
    """Kills the processes on workers that have this word in their command lines."""
    for process in _processes():
      if process.home in self._homes() and word in process.words:
        _kill(process.id)

  def on_launcher(self) -> list[str]:
    """Returns the command lines of the launchers and of their children."""
    return [' '.join(p.words) for p in _processes() if self._is_launcher(p)]

  def kill_launchers(self, but: int | None = None) -> None:
    """Kills the launchers and their children, except one process."""
    for process in _processes():
      if self._is_launcher(process) and process.id != but:
        _kill(process.id)

  # --------------------------------------------------------------------------------- The training

  def program(self, *steps: str, worker: str = 'all') -> None:
    """Sets the steps of the training, as `program.py` knows them."""
    path = self.folder / 'program.json'
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, worker: steps}))

  def release(self, name: str = 'go') -> None:
    """Lets the programs go on that wait for this file."""
    (self.folder / name).touch()

  def starts(self, worker: str | None = None) -> list[dict[str, Any]]:
    """Returns the starts of the training, on one worker or on all."""
    path = self.folder / 'starts.jsonl'
    lines = path.read_text().splitlines() if path.exists() else []
    return [start for start in map(json.loads, lines) if worker in (None, start['worker'])]

  def pids(self, worker: int = 0) -> dict[str, int]:
    """Returns the ids of the training, of the shell that waits for it, and of that one's parent."""
    parents = {process.id: process.parent for process in _processes()}
    program = int((self.home(worker) / 'scs_jax/run/pid').read_text())
    keeper = parents[program]
    return {'program': program, 'keeper': keeper, 'keeper_of_keeper': parents[keeper]}

  # -------------------------------------------------------------------------------- The launchers

  def launch(
    self,
    *words: str,
    folder: pathlib.Path = ROOT,
    grace: int = 5,
    poll: int = 0,
    patience: int = 120,
    late: int | None = None,
    script: pathlib.Path = ROOT / 'run_tpu.sh',
    **given: str,
  ) -> Launcher:
    """Starts `run_tpu.sh`.

    Args:
      *words: more of its command line.
      folder: where it starts.
      grace: GRACE_SECONDS.
      poll: POLL_SECONDS.
      patience: ANSWER_SECONDS.
      late: a worker which its commands to all workers reach a second after the others.
      script: the launcher.
      **given: flags instead of those of ARGUMENTS; '' leaves one out.
    """
    line = [f'--{name}={value}' for name, value in {**ARGUMENTS, **given}.items() if value]
    environment = {
      'BED': str(self.folder),
      'HOME': str(self.folder),
      'PATH': f'{self.folder / "bin"}:{os.environ["PATH"]}',
      'TMPDIR': str(self.folder),
      'POLL_SECONDS': str(poll),
      'GRACE_SECONDS': str(grace),
      'ANSWER_SECONDS': str(patience),
      'LANG': 'C.UTF-8',
      'LATE': str(late),
    }
    self._launchers += 1
    file = self.folder / f'launcher_{self._launchers}'
    return Launcher([str(script), *line, *words], file, environment, folder)

  def manage(self, word: str, **settings: Any) -> Launcher:
    """Starts `run_tpu.sh` with name, zone and `word`."""
    return self.launch(word, type='', config='', workdir='', **settings)

  def close(self) -> None:
    """Ends all processes of the bed."""
    for process in _processes():
      if process.bed == str(self.folder):
        _kill(process.id)
    for listener in self._listeners():
      _kill(listener)

  # ------------------------------------------------------------------------------------- Privately

  def _is_launcher(self, process: '_Process') -> bool:
    return process.bed == str(self.folder) == process.home

  def _homes(self) -> set[str]:
    return {worker['home'] for worker in self._workers}

  def _module(self, name: str) -> str:
    """Returns a shell script that runs a module of this folder, without the site's packages."""
    words = f'PYTHONPATH={ROOT} exec {sys.executable} -S -m experiments.launch.{name}'
    return f'#!/bin/sh\n{words} "$@"\n'

  def _executable(self, name: str, text: str) -> pathlib.Path:
    path = self.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path

  def _worker(self, index: int) -> dict[str, Any]:
    name = f'w{index}'
    home = self.folder / name
    home.mkdir()
    variables = f'BED={self.folder} HOME={home} PATH={self.folder}/worker_bin:/usr/bin:/bin'
    shell = self._executable(
      f'{name}.shell',
      f'#!/bin/bash\ncd {home}\n'
      f'exec env -i {variables} LANG=C.UTF-8 bash -c "${{1-$SSH_ORIGINAL_COMMAND}}"\n',
    )
    address = f'127.0.0.{2 + index}' if self._gcloud else '127.0.0.1'
    port = 22 if self._gcloud else free_port() if self._sshd else None
    return {'home': str(home), 'shell': str(shell), 'address': address, 'port': port}

  def _listen(self, worker: dict[str, Any]) -> None:
    """Starts the sshd of a worker."""
    base = pathlib.Path(worker['home']).with_suffix('.sshd')
    base.write_text(
      f'Port {worker["port"]}\nListenAddress {worker["address"]}\nPidFile {base}.pid\n'
      f'HostKey {self.folder / "host"}\nStrictModes no\nAuthorizedKeysFile '
      f'{self.folder / "key.pub"} {self.folder / ".ssh/google_compute_engine.pub"}\n'
      f'UsePAM no\nPermitRootLogin yes\nAllowUsers {getpass.getuser()}\nMaxStartups 100\n'
      f'Subsystem sftp {SFTP}\nForceCommand {worker["shell"]}\n'
    )
    if os.getuid() == 0:
      pathlib.Path('/run/sshd').mkdir(exist_ok=True)  # sshd wants it
    assert SSHD
    subprocess.run([SSHD, '-f', base, '-E', f'{base}.log'], check=True)
    wait_for(pathlib.Path(f'{base}.pid').exists)

  def _listeners(self) -> set[int]:
    return {int(path.read_text()) for path in self.folder.glob('*.sshd.pid')}

  def _kill_processes(self, worker: dict[str, Any]) -> None:
    for process in _processes():
      if process.home == worker['home']:
        _kill(process.id)


class _Process:
  """A process that runs; `home` and `bed` are of its environment."""

  def __init__(self, folder: pathlib.Path):
    self.id = int(folder.name)
    self.words = (folder / 'cmdline').read_text(errors='replace').split('\0')
    # The name of the program, in brackets, may have spaces.
    self.parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
    variables = (folder / 'environ').read_text(errors='replace').split('\0')
    values = {name: value for name, _, value in (line.partition('=') for line in variables)}
    self.home, self.bed = values.get('HOME'), values.get('BED')


def _processes() -> Iterator[_Process]:
  for folder in pathlib.Path('/proc').iterdir():
    if folder.name.isdecimal():
      with contextlib.suppress(OSError):
        yield _Process(folder)


def _kill(process: int) -> None:
  with contextlib.suppress(ProcessLookupError):
    os.kill(process, signal.SIGKILL)
