"""Networks of configs/invariant.py do not see contrast, or neither contrast nor brightness."""

import config_files
import jax
import numpy as np
import pytest
from flax import nnx

from scs_jax import models

VARIANTS = ['contrast', 'contrast_abs', 'offset', 'offset_abs']


@pytest.fixture(scope='module')
def images():
  return np.asarray(jax.random.uniform(jax.random.key(0), (4, 28, 28, 1)))


def logits(variant, images):
  config = config_files.load_config('invariant', f'quickstart,{variant}')
  settings = {name: value for name, value in config.model.items() if name != 'stack'}
  stack = [dict(entry) for entry in config.model.stack]
  model = models.build(
    settings.pop('name'),
    input_shape=images.shape[1:],
    num_classes=10,
    rngs=nnx.Rngs(0),
    stack=stack,
    **settings,
  )
  return jax.jit(lambda x: model(x))


@pytest.mark.parametrize('variant', VARIANTS)
def test_contrast_changes_no_bit_or_rounds(variant, images):
  f = logits(variant, images)
  y = np.asarray(f(images))
  assert np.ptp(y, axis=0).max() > 0.1  # It does tell images apart.
  for factor in (2.0**-40, 0.25, 2.0**30):
    np.testing.assert_array_equal(f(images * np.float32(factor)), y)
  own = np.float32([0.3, 1e-6, 0.77, 255]).reshape(4, 1, 1, 1)
  np.testing.assert_allclose(f(images * own), y, atol=1e-4 * np.abs(y).max())


@pytest.mark.parametrize('variant', VARIANTS)
def test_an_offset_changes_nothing_if_centred(variant, images):
  f = logits(variant, images)
  y = np.asarray(f(images))
  own = np.float32([0.1, 1, -3, 100]).reshape(4, 1, 1, 1)
  change = np.abs(f(0.5 * images + own) - y).max(-1) / np.abs(y).max()
  if variant.startswith('offset'):  # also at the border, where the padding is
    assert (change < [1e-4, 1e-4, 1e-4, 2e-3]).all()
  else:
    assert (change > 0.01).all()


def test_black_images_have_finite_gradients(images):
  for variant in ('contrast', 'offset'):
    f = logits(variant, images)
    gradient = jax.jit(jax.grad(lambda x, f=f: f(x).sum()))
    for x in (0 * images, 0 * images + 1, images * (images > 0.5)):
      assert np.isfinite(gradient(x)).all()
