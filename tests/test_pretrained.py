"""Every network of the package: its hash, its card, and what it computes."""

import hashlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import scs_jax
from scs_jax import data, models, pretrained
from scs_jax.errors import ArgumentError, UserError
from scs_jax.train.config import from_dict

FOLDER = pretrained.files()
NAMES = pretrained.names()


@pytest.fixture(scope='module')
def networks():
  """Every network, and the compiled function of it."""
  loaded = {name: scs_jax.load(name) for name in NAMES}
  return {name: (model, jax.jit(lambda x, model=model: model(x))) for name, model in loaded.items()}


def probe(shape):
  """Returns the two images of the formula in the cards."""
  image = lambda i, y, x, c: ((i + 1) * (7 * y + 13 * x + 29 * c) % 256) / 255
  return np.fromfunction(image, (2, *shape)).astype(np.float32)


@pytest.mark.parametrize('name', NAMES)
def test_a_network_computes_what_its_card_says(networks, name):
  card, (model, logits) = pretrained.card(name), networks[name]
  assert hashlib.sha256((FOLDER / f'{name}.safetensors').read_bytes()).hexdigest() == card['sha256']
  found = logits(probe(card['input']['shape']))
  np.testing.assert_allclose(found, card['probe']['logits'], atol=2e-4, rtol=1e-4)
  assert model.class_names == tuple(card['classes'])
  assert card['parameters'] == sum(
    x.size for x in jax.tree.leaves(scs_jax.models.weights.named(model))
  )


@pytest.mark.parametrize('name', NAMES)
def test_a_card_says_where_its_network_is_from(name):
  card = pretrained.card(name)
  config = from_dict(card['config'], name)  # a config of this version
  recipe = models.recipe_of(scs_jax.load(name))
  assert recipe is not None
  assert recipe == {**recipe, **config.model.to_dict()}
  assert name == f'{config.data.name}_{card["parameters"]}'
  assert card['evaluated_on'] == f'{config.data.name} {config.data.eval_split}'
  assert config.seed == card['seed']
  assert card['accuracy'] == card['accuracy_over_seeds'][0]
  assert len(card['classes']) == recipe['num_classes'] == 10
  assert tuple(card['input']['shape']) == recipe['input_shape']
  assert {'licence', 'data', 'commit', 'versions', 'command', 'images'} <= set(card)


@pytest.mark.parametrize('name', [name for name in NAMES if name.startswith('mnist')])
def test_a_network_knows_the_embedded_digits(networks, name):
  digits = data.load('mnist5k', 'test')
  logits = networks[name][1](digits.images / np.float32(255))
  accuracy = float((np.argmax(logits, -1) == digits.labels).mean())
  assert accuracy > pretrained.card(name)['accuracy'] - 0.01


def test_all_files_are_small():
  assert len(NAMES) == len(list(FOLDER.glob('*.safetensors')))
  assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 4e6


def test_loading_is_quick_and_needs_no_training_dependency():
  heavy = 'orbax ml_collections tensorflow_datasets grain matplotlib mlxtend tensorboardX'
  code = f"""
import flax.nnx, sys, time
before = set(sys.modules)
import scs_jax
from scs_jax import pretrained
begun = time.process_time()
scs_jax.load({NAMES[0]!r})
print(time.process_time() - begun, *(set({heavy.split()!r}) & (set(sys.modules) - before)))
"""
  ran = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  seconds, *loaded = ran.stdout.split()
  assert float(seconds) < 2
  assert not loaded


@pytest.mark.parametrize(
  ('given', 'said'),
  [
    (f'{NAMES[0]}9', f"did you mean '{NAMES[0]}'"),
    ('nothing_like_it', 'unknown folder or pretrained network'),
    ('/no/such/folder', 'is no folder: name the workdir'),
    ('no.safetensors', r'no\.safetensors cannot be read'),
    ('', "--workdir is ''"),
  ],
)
def test_what_is_not_there_is_told(given, said):
  with pytest.raises(ArgumentError, match=said):
    scs_jax.load(given)


def test_a_name_that_is_also_a_folder_is_not_guessed(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / NAMES[0]).mkdir()
  with pytest.raises(ArgumentError, match=rf'write \./{NAMES[0]} for the folder'):
    scs_jax.load(NAMES[0])
  with pytest.raises(ArgumentError, match='holds no run'):
    scs_jax.load(f'./{NAMES[0]}')


def test_a_name_has_no_steps():
  with pytest.raises(ArgumentError, match='step=3'):
    scs_jax.load(NAMES[0], step=3)


@pytest.fixture
def copied(tmp_path, monkeypatch):
  """A copy of the package's files that a test may damage."""
  for suffix in ('.json', '.safetensors'):
    shutil.copy(FOLDER / f'{NAMES[0]}{suffix}', tmp_path)
  monkeypatch.setattr(pretrained, 'files', lambda: tmp_path)
  return tmp_path / NAMES[0]


def test_a_flipped_bit_in_the_weights_is_refused(copied):
  path = copied.with_suffix('.safetensors')
  content = bytearray(path.read_bytes())
  for at in (5, 40, len(content) // 2, len(content) - 1):
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match='SHA-256'):
      scs_jax.load(NAMES[0])
    content[at] ^= 1
  path.write_bytes(content[:-4])
  with pytest.raises(UserError, match='SHA-256'):
    scs_jax.load(NAMES[0])
  path.unlink()
  with pytest.raises(UserError, match='cannot be read'):
    scs_jax.load(NAMES[0])


@pytest.mark.parametrize('content', ['', '{', '[]', '{"sha256": 3}', '{}'])
def test_a_damaged_card_is_refused(copied, content):
  copied.with_suffix('.json').write_text(content)
  with pytest.raises(UserError, match='damaged'):
    scs_jax.load(NAMES[0])
