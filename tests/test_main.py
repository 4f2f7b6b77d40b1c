"""The command line as a user meets it: real processes."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent


def run(*arguments, config='configs/quickstart.py', cwd=ROOT):
  command = [sys.executable, '-m', 'scs_jax.main', f'--config={config}', *arguments]
  environment = {**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}  # compiles in half the time
  return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_trains_goes_on_and_evaluates(tmp_path):
  tiny = [
    f'--workdir={tmp_path}/run',
    '--config.data.train_split=train[:64]',
    '--config.data.eval_split=test[:30]',
    '--config.total_epochs=2',
  ]
  first = run(*tiny)
  assert first.returncode == 0, first.stderr
  assert 'starting of 2 steps' in first.stdout
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


@pytest.mark.parametrize(
  ('arguments', 'expected'),
  [
    (['--config.batch_sise=3'], "the config has no key 'batch_sise'; the nearest is 'batch_size'"),
    (['--config.data.name=minst'], 'minst'),
    (['--config.model.name=scsnet'], "unknown model 'scsnet'; did you mean 'scs_net'?"),
    (['--mode=eval'], 'holds no run: train first'),
  ],
)
def test_mistakes_are_one_line(tmp_path, arguments, expected):
  result = run(f'--workdir={tmp_path}/run', *arguments)
  assert result.returncode != 0
  assert expected in result.stderr
  assert 'Traceback' not in result.stderr
  assert [line for line in result.stderr.splitlines() if line.startswith('error:')]


def test_a_missing_config_is_one_line(tmp_path):
  result = run(f'--workdir={tmp_path}/run', config='configs/quikstart.py')
  assert result.returncode != 0
  assert 'configs/quikstart.py' in result.stderr
  assert 'Traceback' not in result.stderr
  result = run(f'--workdir={tmp_path}/run', config='configs/gallery.py:mnist')
  assert "gallery.py has no 'mnist'; it has" in result.stderr
  result = run(f'--workdir={tmp_path}/run', config=f'{tmp_path}/config.json')
  assert f'--config={tmp_path}/config.json cannot be read' in result.stderr
  assert 'Traceback' not in result.stderr


def test_a_data_set_that_is_not_prepared_says_how(tmp_path):
  result = run(
    f'--workdir={tmp_path}/run', f'--config.data.data_dir={tmp_path}', config='configs/mnist.py'
  )
  assert result.returncode != 0
  assert 'tfds build mnist --file_format=array_record' in result.stderr
  assert 'mnist5k' in result.stderr
