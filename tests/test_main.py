"""The command line as a user meets it: real processes."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from scs_jax import command

ROOT = pathlib.Path(__file__).parent.parent


def run(*arguments, config='configs/quickstart.py', cwd=ROOT):
  command = [sys.executable, '-m', 'scs_jax.main', f'--config={config}', *arguments]
  environment = {**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}  # compiles in half the time
  return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_trains_goes_on_and_evaluates(tmp_path):
  tiny = [
    f'--workdir={tmp_path}/run',
    '--config.data.train_split',
    'train[:64]',
    '--config.data.eval_split=test[:30]',
    '--config.total_epochs=2',
    '--config.eval_every_epochs=0.5',
    '--config.ema_decay=None',
    '--noconfig.augment.flip',
    '--config.augment.scale=(0.9, 1.1)',
    "--config.optimizer={'momentum': 0.5, 'schedule': {'name': 'one_cycle'}}",
  ]
  first = run(*tiny)
  assert first.returncode == 0, first.stderr
  assert 'starting, 2 steps' in first.stdout
  config = json.loads((tmp_path / 'run' / 'config.json').read_text())
  assert (config['data']['train_split'], config['ema_decay']) == ('train[:64]', None)
  assert (config['eval_every_epochs'], config['augment']['flip']) == (0.5, False)
  assert (config['augment']['scale'], config['optimizer']['momentum']) == ([0.9, 1.1], 0.5)
  again = run(*tiny)
  assert again.returncode == 0, again.stderr
  assert 'going on at step 2' in again.stdout
  evaluated = run(*tiny, '--mode=eval')
  assert evaluated.returncode == 0, evaluated.stderr
  last = lambda process: process.stdout.strip().splitlines()[-1]
  said = re.fullmatch(
    r'2,992 parameters, test\[:30\] accuracy ([\d.]+)%, \d+ s, \d+ images/s in all', last(first)
  )
  assert said, last(first)
  assert last(again) == (
    f'2,992 parameters, test[:30] accuracy {said[1]}%, nothing was left to train'
  )
  accuracy = float(re.search(r'val/accuracy ([\d.]+)', last(evaluated))[1])
  assert accuracy == pytest.approx(float(said[1]) / 100, abs=1e-4)
  # The workdir's own config says the same as the file and the flags together.
  (tmp_path / 'run' / 'pictures' / 'kernels.png').unlink()
  drawn = run(tiny[0], '--mode=pictures', config=f'{tmp_path}/run/config.json')
  assert drawn.returncode == 0, drawn.stderr
  assert last(drawn) == f'{tmp_path}/run/pictures'
  assert (tmp_path / 'run' / 'pictures' / 'kernels.png').exists()


def test_a_mistake_is_one_line_and_nothing_else(tmp_path):
  result = run(f'--workdir={tmp_path}/run', '--config.batch_sise=3')
  assert result.returncode == 1
  assert result.stdout == ''
  assert result.stderr == (
    "error: the config has no key 'batch_sise'; the nearest is 'batch_size'\n"
  )


TOO_LARGE = "({'kind': 'scs', 'features': 1000000000000}, {'kind': 'head'})"
# Many command lines in one process. An error that is no line of its own ends it with a traceback.
ANSWERS = """
import json, sys
from absl import flags
from scs_jax import command, main
from scs_jax.errors import UserError
for words in json.loads(sys.argv[1]):
  flags.FLAGS.unparse_flags()
  try:
    main.main(command.parsed(main.parse, ['main', *words]))
  except UserError as error:
    print(command.one_line(error))
"""


def answers(*command_lines, folder):
  environment = {**os.environ, 'JAX_NUM_CPU_DEVICES': '8', 'PYTHONPATH': f'{ROOT}:{folder}'}
  command = [sys.executable, '-c', ANSWERS, json.dumps(command_lines)]
  result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
  assert result.returncode == 0, result.stderr
  assert len(result.stdout.splitlines()) == len(command_lines), result.stdout
  return result.stdout.splitlines()


def test_mistakes_are_one_line_each(tmp_path):
  (tmp_path / 'nets_of_mine.py').write_text(OWN)
  workdir = f'--workdir={tmp_path}/run'
  quick = ('--config=configs/quickstart.py', workdir)
  own = (f'--config={tmp_path}/own.py', workdir)
  (tmp_path / 'own.py').write_text(
    'from scs_jax.train.config import default\n\n\n'
    "def get_config():\n  return default('nets_of_mine:Careless')\n"
  )
  cases = {
    (*quick, '--config.data.name=minst'): "'mnist'",
    (*quick, '--config.model.name=scsnet'): "unknown model 'scsnet'; did you mean 'scs_net'?",
    (*quick, '--mode=eval'): 'holds no run: train first',
    (*quick, '--config.ema_decay=inf'): 'ema_decay must be a finite number, in [0, 1) or None',
    (*quick, '--noconfig.augment.flip=1'): '--noconfig.augment.flip=1 does not take an argument',
    (quick[0], '--mode=summary', f'--config.model.stack={TOO_LARGE}'): (
      'the memory does not suffice (RESOURCE_EXHAUSTED: Out of memory'
    ),
    ('--workdir=mnist_1382', '--mode=export', f'--output={tmp_path}/{"x" * 300}.safetensors'): (
      'x.safetensors cannot be written or read: File name too long. Make room'
    ),
    (*quick, '--wokdir=a'): 'unknown flag --wokdir; did you mean --workdir? --help lists all',
    (*quick, '--step=3'): '--step=3 is for the other modes than train',
    (workdir,): '--config must be given, for example scs-jax --config=quick',
    ('--config=configs/quikstart.py', workdir): "did you mean 'configs/quickstart.py'?",
    ('--config=configs/gallery.py:mnist', workdir): "gallery.py has no 'mnist'; it has",
    (f'--config={tmp_path}/config.json', workdir): f'--config={tmp_path}/config.json cannot be',
    ('--config=configs/mnist.py', workdir, f'--config.data.data_dir={tmp_path}'): (
      'tfds build mnist --file_format=array_record'
    ),
    # It comes out of a file of the user, so the line says where.
    own: f'out_features must be at least 1, got 0 ({tmp_path}/nets_of_mine.py, line 8)',
  }
  found = answers(*cases, folder=tmp_path)
  for said, expected in zip(found, cases.values(), strict=True):
    assert expected in said
  assert not (tmp_path / 'run').exists()


OWN = """from flax import nnx
import scs_jax


class Careless(nnx.Module):
  def __init__(self, input_shape, num_classes, *, rngs):
    layer = scs_jax.nnx.SharpenedCosineSimilarity
    self.layer = layer(1, 0, (3, 3), rngs=rngs)


class Broken(nnx.Module):
  def __init__(self, input_shape, num_classes, *, rngs):
    self.layer = {}['layer']
"""


def test_any_other_error_keeps_its_traceback(tmp_path):
  (tmp_path / 'nets_of_mine.py').write_text(OWN)
  (tmp_path / 'own.py').write_text(
    'from scs_jax.train.config import default\n\n\n'
    "def get_config():\n  return default('nets_of_mine:Broken')\n"
  )
  result = run(f'--workdir={tmp_path}/run', config='own.py', cwd=tmp_path)
  assert result.returncode == 1
  assert result.stderr.startswith('Traceback')
  assert f'File "{tmp_path}/nets_of_mine.py", line 13' in result.stderr
  assert "KeyError: 'layer'" in result.stderr


def test_a_reader_may_leave_and_a_full_disk_is_one_line(monkeypatch):
  read, write = os.pipe()
  os.close(read)
  with open(write, 'w') as left, monkeypatch.context() as patch:
    patch.setattr(sys, 'stdout', left)
    command.show('text' * 10_000)
    command.show('more')
  if not os.path.exists('/dev/full'):
    return  # not Linux
  with open('/dev/full', 'w') as full, monkeypatch.context() as patch:
    patch.setattr(sys, 'stdout', full)
    with pytest.raises(SystemExit, match='the output cannot be written: No space left on device'):
      command.show('text')


def test_help_lists_flags_and_keys():
  result = run('--help')
  assert result.returncode == 0
  assert result.stderr == ''
  assert '--config.optimizer.schedule.peak_learning_rate=0.03' in result.stdout
  assert 'Range: greater than 0.' in result.stdout
  assert '--mode' in result.stdout
