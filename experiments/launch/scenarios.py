"""What may happen to a launch, and what must become of it: each function is a row of the table.

A scenario gets a bed. It returns what became of the run, in a few words, or raises AssertionError.
Its docstring says what is done.
"""

import contextlib
import inspect
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from experiments.launch.bed import ROOT, Bed, free_port, wait_for

SCENARIOS: dict[str, Callable[[Bed], str]] = {}
REAL_TRAINING = {'real_training', 'no_tpu'}  # import jax, which takes seconds


def scenario(function: Callable[[Bed], str]) -> Callable[[Bed], str]:
  SCENARIOS[function.__name__] = function
  return function


def description(name: str) -> str:
  """Returns what is done in a scenario, from its docstring."""
  return ' '.join(inspect.cleandoc(SCENARIOS[name].__doc__ or '').split())


def one_run(bed: Bed, starts: int = 1) -> None:
  """Asserts how often each worker started the training, and that nothing is left."""
  for worker in ('w0', 'w1'):
    assert len(bed.starts(worker)) == starts, bed.starts(worker)
  wait_for(lambda: not bed.on_worker())


def whole(said: str, *lines: str) -> None:
  """Asserts that each line of the log was shown once, in this order."""
  shown = [line for line in said.splitlines() if line in lines]
  assert shown == list(lines), said


# ------------------------------------------------------------------------------ From start to end


@scenario
def new_machine(bed: Bed) -> str:
  """No machine: it is created, waited for, installed and used."""
  bed.plan(['WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE'])
  bed.program('print epoch 1', 'print epoch 2')
  said = bed.launch('--spot').finish()
  whole(said, 'epoch 1', 'epoch 2')
  assert 'is billed until' in said
  assert '--delete' in said.splitlines()[-1]
  one_run(bed)
  ((call,),) = [bed.calls('create')]
  assert {'--accelerator-type=v5litepod-16', '--runtime-version=v2-alpha-tpuv5-lite'} <= set(call)
  assert '--spot' in call
  assert len(bed.cloud['created']) == 1
  return 'one run; exit code 0; says that the machine is billed'


@scenario
def end_is_noticed(bed: Bed) -> str:
  """The training ends after a while."""
  bed.program('print epoch 1', 'wait go', 'print epoch 2', 'leave 600')
  launcher = bed.launch()
  launcher.wait_for('epoch 1')
  time.sleep(1)
  bed.release()
  begun = time.monotonic()
  whole(launcher.finish(), 'epoch 1', 'epoch 2')
  seconds = time.monotonic() - begun
  assert seconds < 30, seconds  # on a busy machine
  one_run(bed)
  return f'the launcher returned after {seconds:.1f} s; no process is left on a worker'


@scenario
def leaves_a_process(bed: Bed) -> str:
  """The training ends, and a service that it has started goes on."""
  bed.program('print epoch 1', 'detach 600', 'exit 15')
  whole(bed.launch().finish(15), 'epoch 1')
  bed.program('print epoch 1', 'detach 600', 'ignore SIGTERM', 'wait never')
  launcher = bed.launch(grace=30)
  launcher.wait_for('epoch 1')
  bed.manage('--stop', grace=1).finish()
  launcher.finish(137)
  assert len(bed.starts()) == 4
  return 'its end is reported, exit code 15; the next run is stopped, exit code 137'


@scenario
def fails_at_once(bed: Bed) -> str:
  """The training fails in its first moment."""
  bed.program('print error: batch_size 7 does not divide', 'exit 3')
  said = bed.launch().finish(3)
  whole(said, 'error: batch_size 7 does not divide')
  assert 'the run ended with exit code 3' in said
  one_run(bed)
  return 'its error is shown; exit code 3; not started again'


@scenario
def syntax_error(bed: Bed) -> str:
  """The program has a syntax error."""
  bed.program()
  broken = bed.folder / 'broken.py'
  broken.write_text('def main(:\n')
  (bed.folder / 'training').write_text(f'#!/bin/sh\nexec {sys.executable} {broken}\n')
  said = bed.launch().finish(1)
  assert 'SyntaxError' in said
  assert 'the run ended with exit code 1' in said
  assert len(bed.calls('ssh', '--worker=all')) < 8  # once, and not again
  return 'SyntaxError is shown; exit code 1; not started again'


@scenario
def program_is_missing(bed: Bed) -> str:
  """The installed Python cannot be executed."""
  bed.program()
  (bed.folder / 'training').unlink()
  said = bed.launch().finish(127)
  assert 'No such file or directory' in said
  return "the shell's error is shown; exit code 127"


@scenario
def program_is_killed(bed: Bed) -> str:
  """`kill -9` of the training on every worker, as for want of memory."""
  bed.program('print epoch 1', 'kill SIGKILL')
  said = bed.launch().finish(137)
  whole(said, 'epoch 1')
  one_run(bed)
  return 'exit code 137'


# ---------------------------------------------------------------------- One run, whatever happens


@scenario
def ssh_is_lost(bed: Bed) -> str:
  """All connections break twice while the training runs."""
  bed.program('print epoch 1', 'wait a', 'print epoch 2', 'wait b', 'print epoch 3', 'exit 5')
  launcher = bed.launch()
  for line, name in (('epoch 1', 'a'), ('epoch 2', 'b')):
    launcher.wait_for(line)
    bed.cut()
    bed.release(name)
  whole(launcher.finish(5), 'epoch 1', 'epoch 2', 'epoch 3')
  one_run(bed)
  return 'one run; exit code 5; each line of the log once'


@scenario
def nothing_follows_a_lost_connection(bed: Bed) -> str:
  """The launcher and its connections are killed; the training is silent."""
  bed.program('print epoch 1', 'wait go')
  launcher = bed.launch()
  launcher.wait_for('epoch 1')
  assert any('tail' in line for line in bed.on_worker())
  launcher.kill()
  bed.cut()
  wait_for(lambda: not any('tail' in line for line in bed.on_worker()))
  wait_for(lambda: not bed.on_launcher())
  assert len([line for line in bed.on_worker() if 'scs_jax.main' in line]) == 2
  bed.release()
  wait_for(lambda: not bed.on_worker())
  return 'its processes on the workers end within seconds; the training lives'


@scenario
def launcher_is_killed(bed: Bed) -> str:
  """`kill -9` of the launcher, then the same command."""
  bed.program('print epoch 1', 'wait go', 'print epoch 2', 'exit 6')
  first = bed.launch()
  first.wait_for('epoch 1')
  first.kill()
  wait_for(lambda: not bed.on_launcher())
  again = bed.launch()
  again.wait_for('epoch 1')
  bed.release()
  said = again.finish(6)
  whole(said, 'epoch 1', 'epoch 2')
  assert 'it is followed, not started again' in said
  one_run(bed)
  return 'one run, followed by the second launcher; exit code 6; the whole log'


@scenario
def run_ends_without_a_launcher(bed: Bed) -> str:
  """`kill -9` of the launcher; the run ends; then the same command, twice."""
  bed.program('print epoch 1', 'wait go', 'print epoch 2', 'exit 7')
  launcher = bed.launch()
  launcher.wait_for('epoch 1')
  launcher.kill()
  bed.release()
  wait_for(lambda: all((bed.home(i) / 'scs_jax/run/ended').exists() for i in (0, 1)))
  whole(bed.launch().finish(7), 'epoch 1', 'epoch 2')
  one_run(bed)
  whole(bed.launch().finish(7), 'epoch 1', 'epoch 2')
  one_run(bed, starts=2)
  return 'the end is reported once, with exit code and log; the next command starts again'


@scenario
def killed_everywhere(bed: Bed) -> str:
  """`kill -9` of the launcher at ten moments from its start on, then the same command."""
  bed.program('print epoch 1', 'wait go', 'print epoch 2')
  for moment in range(10):
    launcher = bed.launch()
    time.sleep(0.25 * moment)
    launcher.kill()
  last = bed.launch()
  last.wait_for('epoch 1')
  bed.release()
  whole(last.finish(), 'epoch 1', 'epoch 2')
  one_run(bed)
  assert bed.cloud['deleted'] == 0
  return 'one machine, one run'


@scenario
def preempted(bed: Bed) -> str:
  """The machine is taken away while the training runs."""
  for worker in ('w0.1', 'w1.1'):
    bed.program('print epoch 1', 'wait never', worker=worker)
  bed.program('print resumed at epoch 1', 'print epoch 2')
  launcher = bed.launch('--spot')
  launcher.wait_for('epoch 1')
  bed.preempt()
  said = launcher.finish()
  whole(said, 'epoch 1', 'resumed at epoch 1', 'epoch 2')
  assert (len(bed.cloud['created']), bed.cloud['deleted']) == (2, 1)
  return 'the old one is deleted, a new one is created, the run resumes; exit code 0'


@scenario
def worker_reboots(bed: Bed) -> str:
  """Worker 1 reboots; worker 0 waits for it for ever."""
  for worker in ('w0.1', 'w1.1'):
    bed.program('print epoch 1', 'wait never', worker=worker)
  bed.program('print resumed', 'exit 8')
  launcher = bed.launch(grace=1)
  launcher.wait_for('epoch 1')
  bed.reboot(1)
  whole(launcher.finish(8), 'epoch 1', 'stopped by SIGTERM after saving', 'resumed')
  one_run(bed, starts=2)
  return 'the rest of the run is stopped, and the run resumes on both; exit code 8'


@scenario
def everything_reboots(bed: Bed) -> str:
  """Both workers reboot, and a process of theirs gets the number that the training had."""
  for worker in ('w0.1', 'w1.1'):
    bed.program('print epoch 1', 'wait never', worker=worker)
  bed.program('print resumed')
  launcher = bed.launch()
  launcher.wait_for('epoch 1')
  launcher.kill()
  for index in (0, 1):
    bed.reboot(index)
    (bed.home(index) / 'scs_jax/run/pid').write_text(f'{os.getpid()}\n')  # this process
  whole(bed.launch().finish(), 'epoch 1', 'resumed')
  one_run(bed, starts=2)
  return 'the stranger is left alone; the run resumes; the log has both parts'


@scenario
def machine_shuts_down(bed: Bed) -> str:
  """The machine ends all processes with SIGTERM, and the training saves and exits 0."""
  bed.program('print epoch 1', 'wait never', worker='w0.1')
  bed.program('wait never', worker='w1.1')
  bed.program('print resumed')
  launcher = bed.launch()
  launcher.wait_for('epoch 1')
  for index in (0, 1):
    for process in bed.pids(index).values():
      os.kill(process, signal.SIGTERM)
  whole(launcher.finish(), 'epoch 1', 'stopped by SIGTERM after saving', 'resumed')
  one_run(bed, starts=2)
  return 'not taken for the end; the run resumes; exit code 0'


@scenario
def keeper_is_killed(bed: Bed) -> str:
  """`kill -9` of the shell that waits for the training, and on worker 1 of that shell's parent."""
  bed.program('print epoch 1', 'wait go', 'print epoch 2', 'exit 16')
  launcher = bed.launch()
  launcher.wait_for('epoch 1')
  os.kill(bed.pids(0)['keeper'], signal.SIGKILL)
  os.kill(bed.pids(1)['keeper_of_keeper'], signal.SIGKILL)
  time.sleep(1)
  bed.release()
  whole(launcher.finish(16), 'epoch 1', 'epoch 2')
  one_run(bed)
  return 'one run, which is followed to its end; exit code 16'


@scenario
def worker_dies(bed: Bed) -> str:
  """The training dies on worker 1, and hangs on worker 0, whatever the signal."""
  bed.program('print epoch 1', 'ignore SIGTERM', 'wait never', worker='w0')
  bed.program('print Traceback: out of memory', 'exit 9', worker='w1')
  said = bed.launch(grace=1).finish(9)
  assert 'w1: Traceback: out of memory' in said
  assert 'exit code 9 on w1' in said
  one_run(bed)
  return "worker 0 is stopped, worker 1's error is shown; exit code 9"


@scenario
def worker_hangs_at_the_end(bed: Bed) -> str:
  """Worker 0 ends well, worker 1 hangs."""
  bed.program('print done', worker='w0')
  bed.program('wait never', worker='w1')
  said = bed.launch(grace=1).finish(1)
  assert 'a worker did not end within 1 s' in said
  one_run(bed)
  return 'worker 1 is stopped; exit code 1'


@scenario
def other_arguments(bed: Bed) -> str:
  """A run is alive, and the command asks for other arguments, or for another config."""
  bed.program('print epoch 1', 'wait go')
  launcher = bed.launch('--args=--config.seed=1')
  launcher.wait_for('epoch 1')
  changed = bed.folder / 'quickstart.py'
  changed.write_text((ROOT / 'configs/quickstart.py').read_text() + '# edited\n')
  for words in (['--args=--config.seed=2'], ['--args=--config.seed=1', f'--config={changed}']):
    said = bed.launch(*words).finish(2)
    assert '--config.seed=1' in said
    assert '--attach' in said
    assert '--stop' in said
  bed.release()
  launcher.finish()
  one_run(bed)
  return 'refused, with the arguments of the run and how to follow or stop it; exit code 2'


@scenario
def two_launchers(bed: Bed) -> str:
  """The same command twice at the same time."""
  bed.program('print epoch 1', 'wait go', 'exit 11')
  pair = [bed.launch(), bed.launch()]
  for launcher in pair:
    launcher.wait_for('epoch 1')
  bed.release()
  for launcher in pair:
    launcher.finish(11)
  one_run(bed)
  return 'one run; both show its log and end with its exit code, 11'


@scenario
def a_command_is_repeated(bed: Bed) -> str:
  """The connection breaks after the start, so that gcloud repeats it; the run has ended by then."""
  bed.program('print epoch 1', 'exit 12')
  bed.cloud = {'repeats': 'start'}
  whole(bed.launch().finish(12), 'epoch 1')
  one_run(bed)
  return 'one run; exit code 12'


@scenario
def killed_in_each_phase(bed: Bed) -> str:
  """`kill -9` of the launcher and its gcloud in each phase, then the same command."""
  bed.program('print epoch 1', 'wait go', 'print epoch 2', 'exit 17')
  bed.plan(['PROVISIONING', 'ACTIVE'])
  for phase in ('create', 'scp', 'state', 'install', 'start', 'follow'):
    before = len(bed.called(phase))
    launcher = bed.launch()
    wait_for(lambda phase=phase, before=before: len(bed.called(phase)) > before)
    launcher.kill()
    bed.kill_launchers()
  last = bed.launch()
  last.wait_for('epoch 1')
  bed.release()
  # What was started on worker 0 alone is stopped, and started again with the others.
  whole(last.finish(17).rpartition('after saving')[2], 'epoch 1', 'epoch 2')
  assert len(bed.starts('w1')) == 1
  wait_for(lambda: not bed.on_worker())
  assert bed.cloud['deleted'] == 0
  return 'one machine, one run; exit code 17; the whole log'


@scenario
def followers_are_killed(bed: Bed) -> str:
  """`kill -9` of the gcloud that follows the run, of `tail` on the worker, and of its shell."""
  bed.program('print 1', 'wait a', 'print 2', 'wait b', 'print 3', 'wait c', 'print 4', 'exit 18')
  launcher = bed.launch()
  launcher.wait_for('1')
  for line, name, kill in (
    ('\n1\n', 'a', lambda: bed.kill_launchers(but=launcher.process.pid)),
    ('\n2\n', 'b', lambda: bed.kill_on_worker('tail')),
    ('\n3\n', 'c', lambda: bed.kill_on_worker('follow')),
  ):
    launcher.wait_for(line)
    kill()
    bed.release(name)
  whole(launcher.finish(18), '1', '2', '3', '4')
  one_run(bed)
  return 'one run; exit code 18; each line of the log once'


@scenario
def interrupted_and_again(bed: Bed) -> str:
  """Ctrl-C during the installation and while the training runs, and then the same command."""
  bed.program('print epoch 1', 'wait go', 'print epoch 2', 'exit 19')
  signal.signal(signal.SIGINT, signal.default_int_handler)  # nohup and & ignore it
  for phase in ('install', 'follow'):
    launcher = bed.launch()
    wait_for(lambda phase=phase: bool(bed.called(phase)))
    os.killpg(launcher.process.pid, signal.SIGINT)
    said = launcher.finish(130)
    assert 'is billed until' in said, said
  last = bed.launch()
  last.wait_for('epoch 1')
  bed.release()
  whole(last.finish(19), 'epoch 1', 'epoch 2')
  one_run(bed)
  return 'says that the machine is billed; one run; exit code 19'


@scenario
def two_commands(bed: Bed) -> str:
  """Two commands that differ, in the same second, and each is slow to reach another worker."""
  bed.program('print epoch 1', 'wait go', 'exit 20')
  pair = [bed.launch(f'--args=--config.seed={late}', late=late) for late in (0, 1)]
  wait_for(lambda: any(launcher.process.poll() is not None for launcher in pair))
  refused, other = sorted(pair, key=lambda launcher: launcher.process.poll() is None)
  assert '--attach' in refused.finish(2)
  other.wait_for('epoch 1')
  bed.release()
  other.finish(20)
  one_run(bed)
  assert len({tuple(start['argv']) for start in bed.starts()}) == 1
  return 'one runs on all workers, with exit code 20; the other is refused, with exit code 2'


@scenario
def both_create(bed: Bed) -> str:
  """Two launchers in the same second, with one attempt each, and no machine."""
  bed.program('print epoch 1', 'wait go', 'exit 21')
  bed.plan(['PROVISIONING', 'ACTIVE'])
  pair = [bed.launch('--attempts=1'), bed.launch('--attempts=1')]
  for launcher in pair:
    launcher.wait_for('epoch 1')
  bed.release()
  for launcher in pair:
    launcher.finish(21)
  one_run(bed)
  return 'one machine, one run; both end with its exit code, 21'


@scenario
def stopped_from_elsewhere(bed: Bed) -> str:
  """The launcher's laptop sleeps, --stop from elsewhere, the laptop wakes up."""
  bed.program('print epoch 1', 'wait never')
  launcher = bed.launch()
  launcher.wait_for('epoch 1')
  launcher.process.send_signal(signal.SIGSTOP)
  bed.kill_launchers(but=launcher.process.pid)
  bed.manage('--stop').finish()
  launcher.process.send_signal(signal.SIGCONT)
  said = launcher.finish()
  whole(said, 'epoch 1', 'stopped by SIGTERM after saving')
  assert 'the run was stopped' in said
  one_run(bed)
  return 'the end is reported, and the run is not started again; exit code 0'


@scenario
def both_are_preempted(bed: Bed) -> str:
  """Two launchers follow a run whose machine is taken away."""
  for worker in ('w0.1', 'w1.1'):
    bed.program('print epoch 1', 'wait never', worker=worker)
  bed.program('print resumed', 'wait go', 'exit 22')
  pair = [bed.launch(), bed.launch()]
  for launcher in pair:
    launcher.wait_for('epoch 1')
  bed.preempt()
  for launcher in pair:
    launcher.wait_for('resumed')
  bed.release()
  for launcher in pair:
    launcher.finish(22)
  wait_for(lambda: not bed.on_worker())
  return 'one run, which resumes; both end with its exit code, 22'


@scenario
def deleted_by_hand(bed: Bed) -> str:
  """--delete from elsewhere while a launcher follows the run."""
  bed.program('print epoch 1', 'wait never')
  launcher = bed.launch()
  launcher.wait_for('epoch 1')
  bed.manage('--delete').finish()
  for index in (0, 1):
    bed.reboot(index)
  assert 'scs was deleted' in launcher.finish(2)
  assert len(bed.cloud['created']) == 1
  return 'the machine is not made anew, and billed; exit code 2'


@scenario
def an_end_nobody_saw(bed: Bed) -> str:
  """A launcher is killed, its run ends; then a command with other arguments."""
  bed.program('print epoch 1', 'wait go', 'exit 23')
  launcher = bed.launch('--args=--config.seed=1')
  launcher.wait_for('epoch 1')
  launcher.kill()
  bed.release()
  wait_for(lambda: all((bed.home(i) / 'scs_jax/run/ended').exists() for i in (0, 1)))
  bed.program('print another')
  said = bed.launch('--args=--config.seed=2').finish()
  whole(said, 'another')
  assert 'its log is ~/scs_jax/previous/log' in said
  one_run(bed, starts=2)
  return 'the new run starts; says where the log of the other is; exit code 0'


@scenario
def clocks_jump(bed: Bed) -> str:
  """The clock of worker 0 is years ahead, and that of worker 1 goes back at every look."""
  for index, text in enumerate(('echo 4000000000.5', 'echo $((2000000000 - $(/bin/date +%s))).5')):
    path = bed.folder / 'worker_bin' / f'date{index}'
    path.write_text(f'#!/bin/bash\n{text}\n')
    path.chmod(0o755)
  chooser = bed.folder / 'worker_bin/date'
  chooser.write_text('#!/bin/bash\nexec "$0${HOME: -1}"\n')
  chooser.chmod(0o755)
  bed.program('print epoch 1', 'wait go', 'print epoch 2', 'exit 24')
  launcher = bed.launch()
  launcher.wait_for('epoch 1')
  for index in (0, 1):
    for path in (bed.home(index) / 'scs_jax').rglob('*'):
      os.utime(path, (0, 0), follow_symlinks=False)
  launcher.kill()
  again = bed.launch()
  again.wait_for('epoch 1')
  bed.release()
  whole(again.finish(24), 'epoch 1', 'epoch 2')
  bed.launch().finish(24)
  one_run(bed, starts=2)
  return 'one run, followed to its end, exit code 24; the next one, too'


@scenario
def million_lines(bed: Bed) -> str:
  """The training prints a million lines, a line of a million letters, NUL, and no last newline."""
  bed.program('lines 1000000', 'letters 1000000', 'exit 25')
  script = bed.folder / 'script'
  script.write_text(f'#!/bin/bash\nexec {ROOT}/run_tpu.sh "$@" 2> {bed.folder}/errors\n')
  script.chmod(0o755)
  log = bed.launch(grace=100, script=script).finish(25)
  assert log == ''.join(f'line {i}\n' for i in range(1_000_000)) + '@' * 1_000_000 + '\0end'
  one_run(bed)
  return 'each byte arrives once; exit code 25'


@scenario
def other_zone(bed: Bed) -> str:
  """The machine is in another zone than the command says."""
  bed.program('print epoch 1', 'wait go')
  launcher = bed.launch(zone='europe-west4-b')
  launcher.wait_for('epoch 1')
  for word in ('--attach', '--stop'):
    assert 'it is ABSENT in us-west4-a' in bed.manage(word).finish(2)
  assert 'NOT_FOUND' in bed.manage('--delete').finish(1)
  bed.release()
  launcher.finish()
  one_run(bed)
  return 'said, with the zone; nothing is deleted; the run goes on'


@scenario
def name_is_taken(bed: Bed) -> str:
  """create says that the name exists, and describe that it does not."""
  bed.plan('ALREADY_EXISTS: Resource scs already exists')
  said = bed.launch('--attempts=2').finish(75)
  assert 'already exists' in said
  assert 'its name is taken' in said
  return "gcloud's words are shown; two attempts; exit code 75"


# --------------------------------------------------------------------------------------- Full disks


@contextlib.contextmanager
def _small_disk(bed: Bed, worker: int, size: str) -> Iterator[None]:
  """Mounts a disk of `size` as the home of a worker, which only root may do."""
  home = bed.home(worker)
  mount = ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(home)]
  mounted = subprocess.run(mount, capture_output=True, text=True)
  assert not mounted.returncode, mounted.stderr
  bed.cloud = {'resource': {'name': 'scs', 'states': ['ACTIVE']}}
  try:
    yield
  finally:
    bed.close()
    subprocess.run(['umount', '--lazy', str(home)], check=True)


def _fill(disk: pathlib.Path, pages: int) -> pathlib.Path:
  """Fills a disk but for some pages of 4 KB; returns the file that does."""
  filler = disk / 'filler'
  filler.unlink(missing_ok=True)
  filler.write_bytes(bytes((os.statvfs(disk).f_bavail - pages) * 4096))
  return filler


@scenario
def disk_is_full(bed: Bed) -> str:
  """The disk of worker 0 is full when the training fails; then the same command, several times."""
  with _small_disk(bed, 0, '4m'):
    bed.program('print epoch 1', 'fill', 'exit 4')
    assert 'epoch 1' in bed.launch().finish(4)
    assert 'full disk' in bed.launch('--attempts=2').finish(75)
    (bed.home(0) / 'scs_jax/run/code/filler').unlink()
    for _ in range(2):
      filler = _fill(bed.home(0), pages=150)  # enough to copy, and not to start
      assert 'could not be started' in bed.launch('--attempts=1').finish(75)
    assert 'epoch 1' in (bed.home(0) / 'scs_jax/run/log').read_text()
    filler.unlink()
    bed.program('print epoch 1')
    whole(bed.launch().finish(), 'epoch 1')
    one_run(bed, starts=2)
  return 'exit code 4; nothing starts, or is deleted, exit code 75; it starts when there is room'


@scenario
def disk_is_full_from_the_start(bed: Bed) -> str:
  """The disk of worker 0 has room for nothing, or for one of twelve sizes up to 1.6 MB."""
  with _small_disk(bed, 0, '8m'):
    bed.program('print epoch 1', 'exit 26')
    for pages in (0, 6, 12, 18, 24, 30, 36, 42, 48, 54, 250, 300, 400):
      filler = _fill(bed.home(0), pages)
      before = len(bed.starts('w0'))
      launcher = bed.launch('--attempts=1')
      wait_for(lambda launcher=launcher: launcher.process.poll() is not None)
      ran = len(bed.starts('w0')) - before
      launcher.finish({0: 75, 1: 26}[ran])
      filler.unlink()
    whole(bed.launch().finish(26), 'epoch 1')
    wait_for(lambda: not bed.on_worker())
  return 'nothing starts, exit code 75, or there is one run, exit code 26'


# --------------------------------------------------------------------------------------- Arguments

NASTY = (
  '--config.augment.scale=(0.9,1.1)',
  '--a=two words',
  '--b=\'single\' "double" `touch pwned` $(touch pwned) $HOME ${x} \\ \\\\',
  '--c=; touch pwned; #',
  '--d=ü 雪 \U0001f600',
  '--e=two\nlines',
  '--f=*?[a-z]{a,b}~!',
  '--g=&|<>%s%n\t',
  ' leading and trailing ',
  '',
  '-',
  '--',
  '-n',
  '\\',
  '\\n\\x41\\',
  '\x01\x1b[31m\r',
  '\udc80\udcff',  # bytes that are no UTF-8
  'e\u0301\u202e\ufeff',
  'x' * 100_000,
  *map(str, range(500)),
)


@scenario
def arguments_arrive(bed: Bed) -> str:
  """519 arguments: spaces, quotes, `$`, `;`, newlines, dashes, nothing, unicode and no unicode."""
  bed.program()
  workdir = "gs://b/x; touch pwned 'y' $(touch pwned)"
  bed.launch(*(f'--args={word}' for word in NASTY), workdir=workdir).finish()
  for start in bed.starts():
    assert start['argv'][3:] == ['--config=configs/quickstart.py', f'--workdir={workdir}', *NASTY]
  assert len(bed.starts()) == 2
  assert not list(bed.folder.rglob('pwned'))
  assert not (ROOT / 'pwned').exists()
  return 'all arrive byte for byte; nothing else is executed'


@scenario
def nothing_is_executed(bed: Bed) -> str:
  """Shell commands in name, zone, type, runtime, project, data, config and logs."""
  bed.program()
  evil = '; touch pwned; $(touch pwned) `touch pwned` "\'\n'
  config = bed.folder / f'{evil[:40]}.py'.replace('/', '')
  config.write_text('# a config\n')
  for words in (
    [f'--name=a{evil}'],
    [f'--zone=a{evil}'],
    [f'--workdir=gs://b/{evil}', f'--config={config}', f'--type=v4-8{evil}', f'--runtime={evil}'],
    [f'--data-copy=gs://b/{evil}', f'--project={evil}'],
    [f'--data-mount=b{evil}'],
    [f'--create-args={evil}'],
    [f'--logs={bed.folder}/{evil}'],
  ):
    launcher = bed.launch(*words)
    wait_for(lambda launcher=launcher: launcher.process.poll() is not None)
  assert len(bed.starts('w0')) >= 2
  assert not list(bed.folder.rglob('pwned'))
  assert not (ROOT / 'pwned').exists()
  return 'refused, or passed on as text; nothing is executed'


@scenario
def own_config(bed: Bed) -> str:
  """A config outside configs/ with an argument and its modules; config.json; `-my config.py`."""
  bed.program()
  mine = bed.folder / 'my project'
  mine.mkdir()
  for name in ('my_config.py', 'my_nets.py', 'config.json'):
    (mine / name).write_text(name)
  bed.launch(config='my_config.py:wide:2', folder=mine).finish()
  bed.launch(config=f'{mine}/config.json').finish()
  first, second = bed.starts('w0')
  assert '--config=my_config.py:wide:2' in first['argv']
  assert {'configs', 'my_config.py', 'my_nets.py'} <= set(first['folder'])
  assert '--config=config.json' in second['argv']
  assert 'config.json' in second['folder']
  (mine / '-my config.py').touch()
  bed.launch(config='-my config.py', folder=mine).finish()
  assert '--config=-my config.py' in bed.starts('w0')[2]['argv']
  return 'copied with the Python files beside it; the argument arrives'


@scenario
def create_arguments(bed: Bed) -> str:
  """Flags for create: --reserved, a network, a service account, labels."""
  bed.program()
  flags = ('--reserved', '--network=my net', '--service-account=a@b', '--labels=a=b,c=d')
  bed.launch(*(f'--create-args={flag}' for flag in flags)).finish()
  (created,) = bed.cloud['created']
  assert set(flags) <= set(created)
  return 'passed to create as typed'


# ------------------------------------------------------------------------------ The cloud says no


@scenario
def no_quota(bed: Bed) -> str:
  """Quota is exhausted whenever the machine is asked for."""
  quota = "RESOURCE_EXHAUSTED: Quota limit 'TPUV5sLitepodPerProjectPerZone' has been exceeded."
  bed.plan(quota)
  begun = time.monotonic()
  said = bed.launch('--attempts=4', poll=1).finish(75)
  seconds = time.monotonic() - begun
  assert len(bed.cloud['created']) == 4
  assert seconds > 1 + 2 + 4
  for text in ('Quota limit', 'gave up after 4 attempts', 'Ask for quota', 'next one in 4 s'):
    assert text in said, said
  return 'four attempts, with pauses of 1, 2 and 4 s; says what to ask for; exit code 75'


@scenario
def script_is_edited(bed: Bed) -> str:
  """run_tpu.sh is edited in place while it runs; it was started through a link."""
  (bed.folder / 'my clone').mkdir()
  clone = bed.folder / 'my clone' / 'run_tpu.sh'
  shutil.copy(ROOT / 'run_tpu.sh', clone)
  (clone.parent / 'configs').symlink_to(ROOT / 'configs')
  (bed.folder / 'link').symlink_to(clone)
  bed.plan('RESOURCE_EXHAUSTED: no capacity')
  launcher = bed.launch('--attempts=2', poll=3, script=bed.folder / 'link')
  launcher.wait_for('the next one in')
  clone.write_text('touch pwned\n' * 10_000)
  assert 'gave up after 2 attempts' in launcher.finish(75)
  assert not list(bed.folder.rglob('pwned'))
  assert not (ROOT / 'pwned').exists()
  return 'it goes on as it began; exit code 75'


@scenario
def request_fails(bed: Bed) -> str:
  """Every request ends as FAILED."""
  bed.plan(['WAITING_FOR_RESOURCES', 'FAILED'])
  said = bed.launch('--attempts=3').finish(75)
  assert (len(bed.cloud['created']), bed.cloud['deleted']) == (3, 3)
  assert 'gave up after 3 attempts: scs became FAILED' in said
  return 'three attempts, each deleted; says what to ask for; exit code 75'


@scenario
def always_preempted(bed: Bed) -> str:
  """Every machine is taken away before it can be used."""
  bed.plan(['PROVISIONING', 'SUSPENDING', 'SUSPENDED'])
  said = bed.launch('--attempts=3', '--spot').finish(75)
  assert (len(bed.cloud['created']), bed.cloud['deleted']) == (3, 3)
  assert 'scs became SUSPENDED' in said
  return 'three attempts, each deleted; exit code 75'


@scenario
def request_is_refused(bed: Bed) -> str:
  """create is not permitted, or has a flag that gcloud does not know."""
  bed.plan('PERMISSION_DENIED: Permission tpu.nodes.create denied')
  assert 'PERMISSION_DENIED' in bed.launch().finish(2)
  bed.plan()
  assert 'unrecognized arguments' in bed.launch('--create-args=--colour=red').finish(2)
  assert len(bed.calls('create')) == 2
  return "gcloud's words are shown; not tried again; exit code 2"


@scenario
def gcloud_fails(bed: Bed) -> str:
  """describe fails twice, for want of a network or a login; then scp, ssh and delete fail."""
  bed.program('print epoch 1')
  bed.plan(['FAILED'], ['ACTIVE'], describe=2, scp=1, ssh=2, delete=1)
  said = bed.launch().finish()
  whole(said, 'epoch 1')
  assert len(bed.cloud['created']) == 2
  assert 'could not describe' in said
  one_run(bed)
  return 'each is tried again, and no second machine is created; one run; exit code 0'


@scenario
def installation_fails(bed: Bed) -> str:
  """The installation fails once on a worker; then on all, always."""
  bed.program('print epoch 1')
  (bed.folder / 'failing_installs').write_text('x\n')
  whole(bed.launch().finish(), 'epoch 1')
  one_run(bed)
  (bed.folder / 'failing_installs').write_text('x\n' * 100)
  said = bed.launch('--attempts=2').finish(75)
  assert 'gave up after 2 attempts: the installation failed' in said
  assert 'Failed to fetch' in said
  one_run(bed)
  return 'tried again; then given up and named; nothing was started; exit code 75'


@scenario
def start_fails(bed: Bed) -> str:
  """The run cannot be started on worker 1."""
  bed.program('print epoch 1', 'wait never')
  bed.cloud = {'resource': {'name': 'scs', 'states': ['ACTIVE']}}
  (bed.home(1) / 'scs_jax').mkdir()
  (bed.home(1) / 'scs_jax/run').symlink_to('nowhere')
  said = bed.launch('--attempts=2').finish(75)
  assert 'gave up after 2 attempts: the run could not be started' in said
  assert 'run' in said
  assert not bed.starts('w1')
  wait_for(lambda: not bed.on_worker())
  return 'worker 0 is stopped, too; tried again, then given up; exit code 75'


@scenario
def chatty_shell(bed: Bed) -> str:
  """The shells of the workers greet whoever logs in."""
  bed.program('print epoch 1', 'exit 14')
  for index in (0, 1):
    shell = bed.folder / f'w{index}.shell'
    greeting = 'case $SSH_ORIGINAL_COMMAND in *sftp*) ;; *) echo Welcome; echo ended 0 ;; esac\n'
    shell.write_text(shell.read_text().replace('cd ', f'{greeting}cd ', 1))
  said = bed.launch().finish(14)
  whole(said, 'epoch 1')
  one_run(bed)
  return 'their words are neither log nor answer; exit code 14'


@scenario
def wheel_cannot_be_built(bed: Bed) -> str:
  """The wheel cannot be built on this machine."""
  (bed.folder / 'no_wheel').touch()
  assert 'the wheel could not be built' in bed.launch().finish(2)
  assert not bed.calls('create')
  return 'said before a machine is created; exit code 2'


@scenario
def data(bed: Bed) -> str:
  """A data set to copy; a bucket to mount, without and with gcsfuse."""
  bed.program()
  bed.launch('--data-copy=gs://b/my data').finish()
  said = bed.launch('--data-mount=bucket').finish(2)
  assert 'has no gcsfuse: install it there, or use --data-copy' in said
  shutil.copy(bed.folder / 'worker_bin/gcloud', bed.folder / 'worker_bin/gcsfuse')
  bed.launch('--data-mount=bucket').finish()
  target = f'{bed.home(0)}/tensorflow_datasets|'
  calls = (bed.folder / 'data_calls').read_text().splitlines()
  assert f'storage|rsync|--recursive|gs://b/my data|{target}' in calls
  assert f'-o|ro|--implicit-dirs|bucket|{target}' in calls
  assert len(bed.starts()) == 4
  return 'copied and mounted; a missing gcsfuse is said in a sentence'


# --------------------------------------------------------------------------------- Other commands


@scenario
def attach_and_stop(bed: Bed) -> str:
  """--attach from elsewhere, then --stop; with no run and with no machine, too."""
  bed.program('print epoch 1', 'wait never')
  assert 'it is ABSENT' in bed.manage('--attach').finish(2)
  launcher = bed.launch()
  launcher.wait_for('epoch 1')
  attached = bed.manage('--attach')
  attached.wait_for('epoch 1')
  assert 'the command that started it resumes it' in bed.manage('--stop').finish()
  for follower in (launcher, attached):
    said = follower.finish()
    whole(said, 'epoch 1', 'stopped by SIGTERM after saving')
    assert 'the run was stopped' in said
  one_run(bed)
  assert 'no run is alive' in bed.manage('--stop').finish(2)
  bed.program('print resumed')
  whole(bed.launch().finish(), 'resumed')
  return 'the log is shown, the training saves and ends; the same command resumes it'


@scenario
def attached_machine_is_lost(bed: Bed) -> str:
  """The machine is taken away while --attach follows its run."""
  bed.program('print epoch 1', 'wait never')
  launcher = bed.launch()
  launcher.wait_for('epoch 1')
  launcher.kill()
  attached = bed.manage('--attach')
  attached.wait_for('epoch 1')
  bed.preempt()
  assert 'scs cannot be reached: it is SUSPEND' in attached.finish(2)
  assert (len(bed.cloud['created']), bed.cloud['deleted']) == (1, 0)
  return 'said; nothing is deleted or created; exit code 2'


@scenario
def workers_do_not_answer(bed: Bed) -> str:
  """The workers accept commands and answer nothing."""
  for index in (0, 1):
    (bed.folder / f'w{index}.shell').write_text('#!/bin/sh\ncat > /dev/null\n')
  said = bed.launch('--attempts=2', patience=10).finish(75)
  assert 'gave up after 2 attempts' in said
  assert 'not answer' in said
  assert not bed.starts()
  wait_for(lambda: not bed.on_launcher())
  return 'not taken for a run that has ended; exit code 75'


@scenario
def logs_and_delete(bed: Bed) -> str:
  """--logs of two workers, --delete, and --delete-at-end of a run that fails."""
  bed.program('print first', worker='w0')
  bed.program('print second', 'exit 13', worker='w1')
  bed.launch().finish(13)
  bed.manage(f'--logs={bed.folder}/my logs').finish()
  logs = [(bed.folder / 'my logs' / f'worker-{i}.log').read_text() for i in (0, 1)]
  assert logs == ['first\n', 'second\n']
  bed.manage('--delete').finish()
  assert bed.cloud['resource'] is None
  said = bed.launch('--delete-at-end').finish(13)
  assert bed.cloud['resource'] is None
  assert 'billed' not in said
  return 'both logs are fetched; the machine is gone; the exit code stays'


@scenario
def interrupted(bed: Bed) -> str:
  """Ctrl-C while the training runs."""
  bed.program('print epoch 1', 'wait go')
  launcher = bed.launch()
  launcher.wait_for('epoch 1')
  launcher.process.send_signal(signal.SIGTERM)
  said = launcher.finish(130)
  assert 'a run that was started goes on' in said
  wait_for(lambda: not bed.on_launcher())
  assert any('scs_jax.main' in line for line in bed.on_worker())
  bed.release()
  bed.launch().finish()
  one_run(bed)
  return 'the run goes on; says how to follow and to stop it'


# ------------------------------------------------------------------------------- The real training


def _real(bed: Bed, **variables: str) -> None:
  """Makes `scs_jax.main` what the workers run, as the processes of one run."""
  everything = {
    'PYTHONPATH': ROOT,
    'JAX_COORDINATOR_ADDRESS': f'127.0.0.1:{free_port()}',
    'JAX_NUM_PROCESSES': 2,
    'JAX_PROCESS_ID': '${HOME: -1}',  # of the home w0 or w1
    'JAX_NUM_CPU_DEVICES': 1,
    **variables,
  }
  exports = ' '.join(f'{name}={value}' for name, value in everything.items())
  path = bed.folder / 'training'
  path.write_text(f'#!/bin/bash\nexport {exports}\nexec {sys.executable} "$@"\n')


@scenario
def real_training(bed: Bed) -> str:
  """`scs_jax.main` on two workers that CPUs stand in for: connections break, --stop, go on."""
  _real(bed, JAX_PLATFORMS='cpu')
  changes = (
    'data.train_split=train[:640]',
    'data.eval_split=test[:100]',
    'total_epochs=20',
    'log_every_steps=1',
  )
  words = [f'--args=--config.{change}' for change in changes]
  metrics = bed.folder / 'run (1)' / 'metrics.jsonl'
  rows = lambda: [json.loads(line) for line in metrics.read_text().splitlines()]
  launch = lambda: bed.launch(*words, workdir=str(metrics.parent), grace=60)
  launcher = launch()
  launcher.wait_for('starting, 200 steps')
  bed.cut()
  wait_for(lambda: metrics.exists() and len(rows()) > 20)
  bed.manage('--stop', grace=60).finish()
  said = launcher.finish()
  assert said.count('starting, 200 steps') == 1
  assert 'stopped by' in said
  stopped = max(row['step'] for row in rows())
  assert stopped < 200
  assert f'step {stopped} of 200' in launch().finish()
  steps = [row['step'] for row in rows() if 'train/loss' in row]
  assert steps == list(range(1, 201)), steps
  return 'it saves and stops, and resumes at that step; each of 200 steps is logged once'


@scenario
def no_tpu(bed: Bed) -> str:
  """`scs_jax.main`, with the real JAX, where there is no TPU."""
  _real(bed)
  said = bed.launch(workdir=str(bed.folder / 'run')).finish(1)
  assert 'tpu' in said
  assert 'starting, ' not in said
  assert not (bed.folder / 'run' / 'metrics.jsonl').exists()
  return "JAX's error is shown; nothing trains on the CPU; exit code 1"
