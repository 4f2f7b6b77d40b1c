"""Explanations: complete, those of the definition, and refused where they would be none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from flax import nnx
from PIL import Image

import scs_jax
from scs_jax import models, pictures
from scs_jax.errors import ArgumentError, UserError

SHAPE, CLASSES = (8, 8, 2), 3
LAYER = scs_jax.nnx.SharpenedCosineSimilarity
SCS, POOL, HEAD = {'kind': 'scs', 'features': 4}, {'kind': 'pool'}, {'kind': 'head'}


@pytest.fixture(scope='module')
def images():
  return np.asarray(jax.random.uniform(jax.random.key(0), (3, *SHAPE)))


@pytest.fixture(autouse=True)
def quickly(quick_compilation):
  pass


def build(name='scs_net', **settings):
  if name == 'scs_net':
    settings.setdefault('stack', (SCS, POOL, HEAD))
  rngs = nnx.Rngs(0)
  model = models.build(name, input_shape=SHAPE, num_classes=CLASSES, rngs=rngs, **settings)
  model.eval()
  for path, bias in nnx.to_flat_state(nnx.state(model, nnx.Param)):  # that constants are not 0
    if path[-1] == 'bias':
      bias[...] += 0.1 * np.arange(bias.size, dtype=np.float32)
  return model


class Net(nnx.Module):
  """A layer, a function and a head."""

  def __init__(self, function, **settings):
    self.layer, self.function = LAYER(2, 4, (3, 3), rngs=nnx.Rngs(0), **settings), function
    self.head = nnx.Linear(4, CLASSES, rngs=nnx.Rngs(1))

  def __call__(self, x):
    return self.head(self.function(self.layer(x)).mean((1, 2)))


def check_complete(model, images):
  found = scs_jax.explain(model, images)
  logits = np.asarray(model(images), np.float32)
  assert found.contributions.shape == images.shape
  np.testing.assert_array_equal(found.classes, logits.argmax(1))
  np.testing.assert_allclose(found.logits, logits, rtol=1e-4, atol=1e-5)
  total = np.asarray(found.contributions, np.float64).sum((1, 2, 3)) + found.constant
  np.testing.assert_allclose(total, logits.max(1), rtol=1e-4, atol=1e-5)
  assert np.abs(found.contributions).max() > 1e-3
  return found


STACK = (
  {**SCS, 'center': True},
  POOL,
  {'kind': 'abs'},
  {'kind': 'depthwise', 'strides': 2},
  {'kind': 'pointwise', 'features': 4},
  {'kind': 'again', 'layer': 4},
  HEAD,
)
ZOO = {
  'scs_net': {'stack': STACK, 'scale_init': 10.0},
  'resnet': {'widths': (4, 8), 'blocks': (1, 1)},
  'convmixer': {'width': 4, 'depth': 1},
  'densenet': {'layers': (1, 1), 'growth': 2},
  'hukkelas': {'width': 4, 'levels': 1, 'residual': True},
  'cct': {'width': 4, 'depth': 1, 'tokeniser': ()},
}


@pytest.mark.parametrize(('name', 'variant'), [('scs_net', 'scs'), ('cct', 'scs'), ('cct', 'conv')])
def test_contributions_and_constant_add_up_to_the_logit(name, variant, images):
  check_complete(build(name, variant=variant, **ZOO[name]), images)


@pytest.mark.exhaustive
@pytest.mark.parametrize('variant', ['scs', 'conv'])
@pytest.mark.parametrize('name', ZOO)
def test_every_architecture_and_its_twin_are_explained(name, variant, images):
  check_complete(build(name, variant=variant, **ZOO[name]), images)


def by_definition(model, image, chosen):
  """The contributions to a logit of a `Net` without p and q learned, in float64, position wise."""
  kernel, scale = (np.asarray(v[...], np.float64) for v in (model.layer.kernel, model.layer.scale))
  weights = np.asarray(model.head.kernel[...], np.float64)[:, chosen]
  p, q = model.layer.p_init, model.layer.q_init
  height, width, _ = image.shape
  x = np.zeros((height + 2, width + 2, 2))
  x[1:-1, 1:-1] = image
  found = np.zeros_like(x)
  for i in range(height):
    for j in range(width):
      s = x[i : i + 3, j : j + 3]
      for o in range(kernel.shape[-1]):
        k = kernel[..., o]
        lengths = (np.sqrt((s * s).sum()) + q) * (np.sqrt((k * k).sum()) + q)
        held = np.abs((s * k).sum() / lengths) ** (p - 1) / lengths
        found[i : i + 3, j : j + 3] += weights[o] * scale * held * s * k / (height * width)
  return found[1:-1, 1:-1]


def test_contributions_are_those_of_the_definition(images):
  fixed = {'p_mode': 'fixed', 'p_init': 1.7, 'q_mode': 'fixed', 'q_init': 0.1, 'scale_init': 5.0}
  model = Net(lambda y: y, **fixed)
  found = scs_jax.explain(model, images, classes=np.array([2, 0, 1]))
  for image, chosen, contributions in zip(images, (2, 0, 1), found.contributions, strict=True):
    wanted = by_definition(model, image, chosen)
    np.testing.assert_allclose(contributions, wanted, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(found.constant, 0, atol=1e-6)


def test_a_linear_network_is_explained_by_weights_times_pixels(images):
  model = nnx.Sequential(lambda x: x.reshape(3, -1), nnx.Linear(128, CLASSES, rngs=nnx.Rngs(0)))
  linear = model.layers[1]
  linear.bias[...] = jnp.array([1.0, -2.0, 3.0])
  found = scs_jax.explain(model, images, 1)
  weights = linear.kernel[...][:, 1].reshape(SHAPE)
  np.testing.assert_allclose(found.contributions, images * np.asarray(weights), rtol=1e-5)
  np.testing.assert_allclose(found.constant, -2)


def test_the_shift_of_batchnorm_belongs_to_the_constant(images):
  norm = nnx.BatchNorm(4, rngs=nnx.Rngs(0))
  norm.mean[...], norm.bias[...] = jnp.arange(4.0), jnp.ones(4)
  model = Net(lambda y: norm(y), scale_init=3.0)
  norm.eval()
  found = check_complete(model, images)
  black = model.head(norm(jnp.zeros((1, 4))))[0]
  np.testing.assert_allclose(found.constant, black[found.classes], rtol=1e-4)


def test_gradient_times_input_sums_to_nothing_and_contributions_do_not(images):
  model = Net(abs, q_mode='fixed', q_init=0.0)
  gradient = jax.grad(lambda x: model(x).max(1).sum())(images)
  np.testing.assert_allclose((gradient * images).sum((1, 2, 3)), 0, atol=1e-5)
  found = scs_jax.explain(model, images)
  assert (np.abs(found.logit - found.constant) > 0.02).all()
  assert (found.error < 1e-5).all()


AFFINE = (
  nnx.relu,
  nnx.leaky_relu,
  nnx.gelu,  # a product with a gate
  lambda y: jnp.clip(10 * y, -0.5, 0.5),
  lambda y: jnp.maximum(10 * y, 0.1),
  lambda y: jax.lax.scan(lambda c, _: (abs(c) * 2 + 1, None), y, None, length=2)[0],
  jax.checkpoint(lambda y: abs(y) + 1),
  lambda y: (y - y.mean(-1, keepdims=True)) / (1 + y.std(-1, keepdims=True)),
  lambda y: jax.lax.stop_gradient(y) * 2,
  lambda y: scs_jax.b_cos(y, jnp.ones((3, 3, 4, 4)), 2.0, 0.1),
  lambda y: scs_jax.soft_cosine_similarity(y, jnp.ones((1, 1, 4, 4)), jnp.eye(4), 2.0, 0.1),
  lambda y: scs_jax.sharpened_cosine_similarity(y, jnp.ones((3, 3, 4, 4)), method='patches'),
  lambda y: nnx.max_pool(y, (2, 2), padding='SAME') + nnx.avg_pool(y, (2, 2), padding='SAME'),
)


def test_what_is_affine_when_held_is_explained(images):
  check_complete(Net(lambda y: sum(function(y) for function in AFFINE)), images)


def test_every_kind_of_layer_is_explained(images):
  kinds = ({'output': 'unit'}, {'output': 'b_cos'}, {'center': True}, {'p_mode': 'shared'})
  layers = [LAYER(4, 4, (3, 3), rngs=nnx.Rngs(i), **kind) for i, kind in enumerate(kinds)]
  check_complete(Net(lambda y: sum(abs(layer(y)) for layer in layers)), images)


def test_narrow_networks_are_explained_in_float32(images):
  found = scs_jax.explain(build(dtype='bfloat16'), images)
  assert found.contributions.dtype == found.logits.dtype == jnp.float32
  assert (found.error < 1e-5).all()
  own = build(dtype='bfloat16')(images).astype(jnp.float32)
  np.testing.assert_allclose(found.logits, own, atol=0.05)


REFUSED = {
  'tanh': (jnp.tanh, 'tanh'),
  'hidden': (lambda y: y + jax.lax.stop_gradient(jnp.tanh(y) - y), 'tanh'),
  'product': (lambda y: y * y, 'product of two values'),
  'softmax': (nnx.softmax, 'exp'),
  'batch': (lambda y: y - y.mean(0, keepdims=True), 'images of a batch'),
  'constant': (jnp.ones_like, 'do not depend on the image'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_cannot_be_explained_is_refused_with_the_reason(name, images):
  function, reason = REFUSED[name]
  with pytest.raises(UserError, match=reason):
    scs_jax.explain(Net(function), images)


def test_training_mode_is_refused(images):
  model = build(variant='conv')
  model.train()
  with pytest.raises(UserError, match=r'BatchNorm .* model.eval\(\)'):
    scs_jax.explain(model, images)
  dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
  model = nnx.Sequential(Net(lambda y: y), dropout)
  with pytest.raises(UserError, match=r'random numbers; call model.eval\(\)'):
    scs_jax.explain(model, images)
  dropout.eval()
  assert (scs_jax.explain(model, images).error < 1e-5).all()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda x: {'images': x[:, :4]}, r'does not take images of shape \(3, 4, 8, 2\)'),
    (lambda x: {'images': x[..., :1]}, r'does not take images of shape \(3, 8, 8, 1\)'),
    (lambda x: {'images': x[:0]}, r'got shape \(0, 8, 8, 2\)'),
    (lambda x: {'images': x.astype(int)}, 'floating or uint8, got int64'),
    (lambda x: {'images': np.where(x == x[1, 2, 3, 1], np.nan, x)}, 'image 1 has NaN'),
    (lambda x: {'classes': 3}, 'from 0 to 2, got 3'),
    (lambda x: {'classes': [0, -1, 2]}, 'from 0 to 2'),
    (lambda x: {'classes': [0, 1]}, 'one for each of the 3 images'),
    (lambda x: {'classes': 1.0}, 'classes must be integers'),
    (lambda x: {'model': abs}, 'model must be an nnx.Module'),
    (lambda x: {'model': LAYER(2, 4, (3, 3), rngs=nnx.Rngs(0))}, 'must return logits'),
  ],
)
def test_wrong_arguments_are_one_line(change, message, images):
  arguments = {'model': build(), 'images': images, **change(images)}
  with pytest.raises(ArgumentError, match=message) as caught:
    scs_jax.explain(**arguments)
  assert '\n' not in str(caught.value)


def test_bytes_are_scaled(images):
  model = build()
  pixels = np.round(images * 255).astype(np.uint8)
  found = scs_jax.explain(model, pixels)
  again = scs_jax.explain(model, pixels / np.float32(255))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, again)


def test_new_weights_are_seen_and_jit_agrees(images):
  model = build()
  found = scs_jax.explain(model, images, 1)
  compiled = jax.jit(lambda x: scs_jax.explain(model, x, 1))(images)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, compiled)
  model.head_2.kernel[...] *= 2
  twice = scs_jax.explain(model, images, 1)
  np.testing.assert_allclose(twice.contributions, 2 * found.contributions, atol=1e-6)


def test_the_picture_has_a_common_scale(tmp_path):
  images = np.zeros((2, 4, 4, 1), np.float32)
  maps = np.stack([np.full((4, 4), 2.0), np.full((4, 4), -1.0)])
  file = epath.Path(tmp_path / 'explanations.png')
  with file.open('wb') as f:
    pictures.draw_explanations(images, ['$a', 'b'], [maps], [['x: 1', 'y: 2']], 'none', f)
  pixels = np.asarray(Image.open(file).convert('RGB')).reshape(-1, 3).astype(int)
  red, blue = ((pixels[:, a] - pixels[:, b]) for a, b in ((0, 2), (2, 0)))
  assert (red > 60).sum() > 1000
  assert (blue > 60).sum() > 1000
