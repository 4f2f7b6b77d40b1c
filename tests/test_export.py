"""Exported networks compute the same elsewhere, and what cannot be exported is told."""

import json
import os
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from flax import nnx

import scs_jax
from scs_jax import export, models
from scs_jax.errors import ArgumentError, MissingPackageError, UserError
from scs_jax.export import portable

pytestmark = pytest.mark.usefixtures('quick_compilation')

SHAPE = (8, 8, 1)
STACK = (
  {'kind': 'scs', 'features': 4},
  {'kind': 'abs'},
  {'kind': 'pool', 'padding': 'SAME', 'window': 3, 'strides': 2},
  {'kind': 'depthwise'},
  {'kind': 'head'},
)


def build(**changes):
  arguments = {'stack': STACK, 'input_shape': SHAPE, 'num_classes': 3, **changes}
  model = models.build('scs_net', **arguments, rngs=nnx.Rngs(0))
  model.eval()
  return model


@pytest.fixture(scope='module')
def model():
  return build()


@pytest.fixture(scope='module')
def images():
  return np.random.default_rng(0).random((5, *SHAPE), np.float32)


class Own(nnx.Module):
  """A network of a user: with dropout and BatchNorm, and built by no recipe."""

  def __init__(self, rngs):
    self.layer = scs_jax.nnx.SharpenedCosineSimilarity(1, 4, (3, 3), rngs=rngs)
    self.norm = nnx.BatchNorm(4, rngs=rngs)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)

  def __call__(self, x):
    return self.dropout(self.norm(self.layer(x))).mean((1, 2))


# ----------------------------------------------------------------------------------- StableHLO

READ = """
import sys
sys.modules['scs_jax'] = None  # an import would fail
import jax.export, numpy as np
network = jax.export.deserialize(bytearray(open('net.stablehlo', 'rb').read()))
images = np.load('images.npy')
np.savez('outputs.npz', *[network.call(images[:n]) for n in (1, 2, 5)])
print(*network.platforms)
"""


def test_stablehlo_gives_the_same_logits_without_scs_jax(model, images, tmp_path):
  export.to_stablehlo(model, tmp_path / 'net.stablehlo')
  np.save(tmp_path / 'images.npy', images)
  environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
  ran = subprocess.run(
    [sys.executable, '-c', READ],
    cwd=tmp_path,
    env={**environment, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )
  assert ran.returncode == 0, ran.stderr
  assert {'cpu', 'cuda', 'tpu'} <= set(ran.stdout.split())
  expected = jax.jit(lambda x: model(x))(images)
  outputs = np.load(tmp_path / 'outputs.npz')
  for n, name in zip((1, 2, 5), outputs.files, strict=True):
    np.testing.assert_allclose(outputs[name], expected[:n], atol=1e-5)


def test_a_network_of_ones_own_is_told_the_size_of_its_images(images, tmp_path):
  own = Own(nnx.Rngs(0))
  own.eval()
  with pytest.raises(ArgumentError, match='pass input_shape'):
    export.to_stablehlo(own, tmp_path / 'own')
  export.to_stablehlo(own, tmp_path / 'own', SHAPE)
  network = jax.export.deserialize(bytearray((tmp_path / 'own').read_bytes()))
  np.testing.assert_allclose(network.call(images), own(images), atol=1e-5)


# ---------------------------------------------------------------------------------------- ONNX


@pytest.mark.parametrize(
  ('name', 'changes'),
  [
    ('scs_net', {'stack': STACK}),
    ('scs_net', {'stack': STACK, 'variant': 'conv'}),
    ('cct', {'width': 4, 'depth': 1, 'tokeniser': ()}),
  ],
)
def test_what_is_rewritten_for_jax2onnx_computes_the_same(name, changes, images):
  sizes = {'input_shape': SHAPE, 'num_classes': 3, 'rngs': nnx.Rngs(0)}
  model = models.build(name, **changes, **sizes)
  model.eval()
  function = lambda x: model(x)
  batch = jax.export.symbolic_shape('batch')
  any_size = jax.ShapeDtypeStruct((*batch, *SHAPE), jnp.float32)
  rewritten = portable.rewrite(function, any_size)
  kinds = {equation.primitive.name for equation in jax.make_jaxpr(rewritten)(any_size).eqns}
  assert not kinds & {'platform_index', 'pad', 'reduce_window_max', 'jit', 'custom_jvp_call'}
  fixed = portable.rewrite(function, jax.ShapeDtypeStruct(images.shape, jnp.float32))
  np.testing.assert_allclose(jax.jit(fixed)(images), jax.jit(function)(images), atol=1e-5)


def test_onnx_is_for_float32(tmp_path):
  batch = jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)
  model = build(dtype='bfloat16')
  with pytest.raises(ArgumentError, match='bfloat16'):
    portable.rewrite(lambda x: model(x), batch)


@pytest.mark.parametrize(
  ('function', 'package', 'remedy'),
  [
    (export.to_stablehlo, 'flatbuffers', r'scs-jax\[export\]'),
    (export.to_onnx, 'jax2onnx', r'scs-jax\[onnx\]'),
  ],
)
def test_a_missing_package_is_named_with_its_extra(
  model, tmp_path, monkeypatch, function, package, remedy
):
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(MissingPackageError, match=f'{package}.*{remedy}'):
    function(model, tmp_path / 'net')


# --------------------------------------------------------------------------------- safetensors


def same(a, b, images):
  """Whether two networks are one: their arrays and outputs, bit by bit."""
  outputs = [np.asarray(jax.jit(lambda x, m=m: m(x))(images)) for m in (a, b)]
  ours, theirs = map(models.weights.named, (a, b))
  assert ours.keys() == theirs.keys()
  assert all(ours[name].dtype == theirs[name].dtype for name in ours)
  assert all((np.asarray(ours[name]) == np.asarray(theirs[name])).all() for name in ours)
  return (outputs[0] == outputs[1]).all()


@pytest.mark.parametrize(
  'changes',
  [{}, {'variant': 'conv'}, {'param_dtype': jnp.bfloat16, 'scale_init': 3.0, 'p_mode': 'fixed'}],
)
def test_safetensors_bring_the_same_network_back(changes, images, tmp_path):
  model = build(**changes)
  model.class_names = ('a', 'b', 'c')
  export.to_safetensors(model, tmp_path / 'net.safetensors')
  again = scs_jax.load(tmp_path / 'net.safetensors')
  assert same(model, again, images)
  assert again.class_names == ('a', 'b', 'c')
  assert models.recipe_of(again) == models.recipe_of(model)
  filled = models.build(**(models.recipe_of(model) or {}), rngs=nnx.Rngs(1))  # other first weights
  filled.eval()
  export.from_safetensors(filled, tmp_path / 'net.safetensors')
  assert same(model, filled, images)


def test_safetensors_are_read_without_scs_jax(model, tmp_path):
  export.to_safetensors(model, tmp_path / 'net.safetensors')
  arrays = safetensors.numpy.load_file(tmp_path / 'net.safetensors')
  np.testing.assert_array_equal(arrays['scs_0.kernel'], model.scs_0.kernel[...])
  assert arrays['head_4.bias'].shape == (3,)


def test_a_network_of_ones_own_is_filled_but_not_guessed(images, tmp_path):
  own, other = (Own(nnx.Rngs(seed)) for seed in (0, 1))
  path = tmp_path / 'own.safetensors'
  export.to_safetensors(own, path)
  with pytest.raises(ArgumentError, match='from_safetensors'):
    scs_jax.load(path)
  export.from_safetensors(other, path)
  own.eval(), other.eval()
  assert same(own, other, images)
  with pytest.raises(ArgumentError, match=r'does not fit the network: .* is absent in the file'):
    export.from_safetensors(build(), path)


def test_a_file_does_not_import_the_module_that_it_names(model, tmp_path):
  recipe = json.dumps({'recipe': {'name': 'evil:Net'}})
  arrays = {'x': np.zeros(3, np.float32)}
  safetensors.numpy.save_file(arrays, tmp_path / 'evil.safetensors', {'scs_jax': recipe})
  (tmp_path / 'evil.py').write_text('raise SystemExit("ran")')
  sys.path.insert(0, str(tmp_path))
  try:
    with pytest.raises(ArgumentError, match="class 'evil:Net', which is not in scs_jax"):
      scs_jax.load(tmp_path / 'evil.safetensors')
  finally:
    sys.path.remove(str(tmp_path))


@pytest.mark.parametrize(
  'header',
  [
    'no json',
    '[]',
    'null',
    '{"recipe": 3}',
    '{"recipe": {"name": "scs_net"}}',
    '{"recipe": {"name": "scs_net", "stak": []}}',
    '{"recipe": {"name": ["a"]}}',
  ],
)
def test_a_header_that_makes_no_sense_is_told(header, tmp_path):
  path = tmp_path / 'net.safetensors'
  safetensors.numpy.save_file({'x': np.zeros(3, np.float32)}, path, {'scs_jax': header})
  with pytest.raises(ArgumentError, match=r'net\.safetensors'):
    scs_jax.load(path)


def test_a_damaged_file_is_told(model, tmp_path):
  path = tmp_path / 'net.safetensors'
  export.to_safetensors(model, path)
  content = path.read_bytes()
  for damaged in (b'', content[:7], content[:100], content[:-1], b'\xff' * 8 + content[8:]):
    path.write_bytes(damaged)
    with pytest.raises(ArgumentError, match=r'net\.safetensors'):
      scs_jax.load(path)


# ------------------------------------------------------------------------- What users do wrong

FUNCTIONS = (export.to_stablehlo, export.to_onnx, export.to_safetensors)


@pytest.fixture
def stand_in(monkeypatch):
  """Lets to_onnx reach its checks without jax2onnx."""
  monkeypatch.setitem(sys.modules, 'jax2onnx', object())


@pytest.mark.parametrize('function', FUNCTIONS)
def test_no_network_and_no_place_are_told(function, model, tmp_path, stand_in):
  for wrong in (lambda x: x, {'kernel': 1}, None, Own):
    with pytest.raises(ArgumentError, match=r'must be a flax\.nnx\.Module'):
      function(wrong, tmp_path / 'net')
  with pytest.raises(ArgumentError, match='is abstract'):
    function(nnx.eval_shape(build), tmp_path / 'net')
  with pytest.raises(ArgumentError, match=r'the folder .*/none does not exist'):
    function(model, tmp_path / 'none' / 'net')
  with pytest.raises(ArgumentError, match='is a folder'):
    function(model, tmp_path)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('function', FUNCTIONS[:2])
def test_a_wrong_mode_or_shape_is_told(function, tmp_path, stand_in):
  own = Own(nnx.Rngs(0))
  with pytest.raises(ArgumentError, match=r'in training mode, .*call model\.eval\(\)'):
    function(own, tmp_path / 'net', SHAPE)
  own.norm.eval()
  with pytest.raises(ArgumentError, match='its Dropout'):
    function(own, tmp_path / 'net', SHAPE)
  own.eval()
  for shape in ((), (0, 8, 1), (8, 8, '1'), (8.0, 8, 1), (None, 8, 1)):
    with pytest.raises(ArgumentError, match='input_shape must be'):
      function(own, tmp_path / 'net', shape)
  with pytest.raises(ArgumentError, match='does not take images'):
    function(own, tmp_path / 'net', (8, 8, 2))
  assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_told_and_left_as_it_was(model, tmp_path, monkeypatch):
  path = tmp_path / 'net.safetensors'
  path.write_bytes(b'old')

  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr('pathlib.Path.write_bytes', full)
  with pytest.raises(UserError, match=r'cannot be written: .*No space left'):
    export.to_safetensors(model, path)
  assert [file.name for file in tmp_path.iterdir()] == [path.name]
  assert path.read_bytes() == b'old'


def test_the_suffix_names_the_format(model, tmp_path):
  export.to_file(model, tmp_path / 'net.safetensors')
  assert (tmp_path / 'net.safetensors').exists()
  with pytest.raises(ArgumentError, match=r"'net\.pt' must end in \.stablehlo"):
    export.to_file(model, 'net.pt')
