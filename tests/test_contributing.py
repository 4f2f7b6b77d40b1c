"""The examples of CONTRIBUTING.md, typed into an empty folder."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
BLOCKS = dict(
  zip(
    ('model', 'config', 'data', 'experiment'),
    re.findall(r'```python\n(.*?)```', (ROOT / 'CONTRIBUTING.md').read_text(), re.DOTALL),
    strict=True,
  )
)


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'my_nets.py').write_text(BLOCKS['model'])
  (tmp_path / 'my_config.py').write_text(BLOCKS['config'])
  (tmp_path / 'my_data.py').write_text(BLOCKS['data'])
  rng = np.random.default_rng(0)
  for split, size in (('train', 64), ('test', 20)):
    images = rng.integers(0, 256, (size, 8, 8, 1)).astype(np.uint8)
    np.savez(tmp_path / f'{split}.npz', images=images, labels=np.arange(size, dtype=np.int32) % 2)
  return tmp_path


def python(folder, *words):
  environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}
  result = subprocess.run(
    [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
  )
  assert result.returncode == 0, result.stderr
  return result.stdout


def test_a_model_a_config_and_a_data_set_of_ones_own_train_from_their_folder(folder):
  said = python(
    folder,
    '-m',
    'scs_jax.main',
    '--config=my_config.py',
    f'--workdir={folder}/run',
    '--config.data.name=my_data:load',
    '--config.model.width=6',
    '--config.batch_size=32',
    '--config.total_epochs=1',
    '--config.log_every_steps=1',
  )
  assert 'my_nets:MyNet on my_data:load' in said
  assert 'starting, 2 steps' in said
  assert 'accuracy' in said.splitlines()[-1]
  loaded = "import scs_jax; print(scs_jax.load('run').layer.out_features)"
  assert python(folder, '-c', loaded).strip() == '6'


def test_an_experiment_of_ones_own_adds_its_lines(folder):
  short = "{'model.p_init': p, 'data.train_split': 'train[:128]', 'total_epochs': 3.0}"
  text = BLOCKS['experiment'].replace("{'model.p_init': p}", short)
  (folder / 'initial_p.py').write_text(text.replace('(1.0, 2.0, 3.0)', '(2.0,)'))
  python(folder, 'initial_p.py', f'--workdir={folder}/initial_p')
  (line,) = map(json.loads, (folder / 'initial_p' / 'results.jsonl').read_text().splitlines())
  assert line['p_init'] == 2.0
  assert {'accuracy', 'commit', 'machine', 'versions'} <= set(line)
