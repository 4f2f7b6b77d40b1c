"""Every form of the correlation equals the convolution: value, gradients, tangents, curvature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arrays import normal

from scs_jax.ops import windows
from scs_jax.ops.arguments import resolve_window
from scs_jax.ops.correlation import correlate

pytestmark = pytest.mark.usefixtures('quick_compilation')

# Name: (image, kernel, groups, strides, padding, dilation). Every row of the table in
# scs_jax/ops/cpu.py has a case, and further cases have uneven strides, padding or sizes.
CASES = {
  'pointwise': ((2, 5, 4, 6), (1, 1, 6, 3), 1, 1, 'SAME', 1),
  'pointwise, strides': ((2, 5, 4, 6), (1, 1, 6, 3), 1, 2, ((1, 0), (0, 2)), 1),
  'one feature': ((2, 6, 5, 1), (3, 2, 1, 4), 1, 1, 'SAME', 1),
  'RGB': ((2, 7, 6, 3), (3, 3, 3, 4), 1, 1, 'VALID', 1),
  'RGB, strides and dilation': ((2, 9, 8, 3), (3, 2, 3, 4), 1, 2, ((3, 0), (1, 4)), 2),
  'dense': ((2, 5, 5, 6), (3, 3, 6, 4), 1, 1, 'SAME', 1),
  'dense, strides': ((2, 7, 6, 6), (3, 3, 6, 4), 1, (2, 3), 'SAME', 1),
  'line': ((2, 9, 6), (3, 6, 4), 1, 1, 'SAME', 2),
  'volume': ((2, 5, 4, 6, 5), (3, 2, 3, 5, 4), 1, (2, 1, 1), ((1, 2), (0, 1), (1, 1)), 1),
  'volume, dilation': ((1, 6, 5, 4, 5), (2, 2, 3, 5, 2), 1, 1, 'SAME', (2, 1, 1)),
  'depthwise': ((2, 6, 5, 3), (3, 3, 1, 3), 3, 1, 'SAME', 1),
  'depthwise, 17 rows': ((2, 17, 3, 2), (2, 3, 1, 4), 2, 1, 'SAME', 1),
  'depthwise, strides': ((2, 9, 7, 3), (3, 3, 1, 6), 3, 2, ((4, 0), (0, 5)), 2),
  'groups': ((2, 6, 5, 6), (3, 3, 2, 9), 3, 1, 'SAME', 1),
}


def make(name):
  image, shape, groups, strides, padding, dilation = CASES[name]
  window = resolve_window(
    image[1:-1], shape[:-2], strides, padding, dilation, shape_name='the kernel window'
  )
  settings = {'window': window, 'groups': groups, 'precision': 'highest', 'dtype': jnp.float64}
  f = lambda method: jax.jit(functools.partial(correlate, method=method, **settings))
  return normal(0, *image, dtype='float64'), normal(1, *shape, dtype='float64'), f


@pytest.fixture(autouse=True)
def double_precision():
  with jax.enable_x64(True):
    yield


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('method', ['auto', 'shifts'])
def test_equals_the_convolution(name, method):
  x, kernel, f = make(name)
  ours, theirs = f(method), f('convolution')
  y = theirs(x, kernel)
  np.testing.assert_allclose(ours(x, kernel), y, atol=1e-12)
  cotangent = normal(2, *y.shape, dtype='float64')
  gradients = [jax.vjp(g, x, kernel)[1](cotangent) for g in (ours, theirs)]
  for gradient, expected in zip(*gradients, strict=True):
    np.testing.assert_allclose(gradient, expected, atol=1e-11)
  # Differentiates one argument alone: the derivative then omits the terms of the other.
  for argument in (0, 1):
    alone = jax.grad(lambda *a: (ours(*a) * cotangent).sum(), argument)(x, kernel)
    np.testing.assert_allclose(alone, gradients[1][argument], atol=1e-11)
  tangents = normal(3, *x.shape, dtype='float64'), normal(4, *kernel.shape, dtype='float64')
  pushed = [jax.jvp(g, (x, kernel), tangents)[1] for g in (ours, theirs)]
  np.testing.assert_allclose(*pushed, atol=1e-11)


@pytest.mark.parametrize('name', ['RGB', 'volume', 'depthwise, strides', 'groups'])
def test_curvature_equals_that_of_the_convolution(name):
  x, kernel, f = make(name)
  tangents = normal(3, *x.shape, dtype='float64'), normal(4, *kernel.shape, dtype='float64')

  def curvature(g):
    gradient = jax.grad(lambda x, kernel: jnp.sin(g(x, kernel)).sum(), (0, 1))
    return jax.jvp(gradient, (x, kernel), tangents)[1]

  for ours, theirs in zip(curvature(f('auto')), curvature(f('convolution')), strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-10)


@pytest.mark.parametrize('shape', [((3,), 1, 1), ((2, 3), (2, 1), 1), ((2, 1, 3), 2, (1, 2, 2))])
@pytest.mark.parametrize('padding', ['SAME', 'VALID', 4])
def test_overlap_add_is_the_sum_of_shifts(shape, padding):
  size, strides, dilation = shape
  spatial = (6, 7, 8)[: len(size)]
  window = resolve_window(spatial, size, strides, padding, dilation, shape_name='window')
  x = normal(0, 2, *spatial, 3, dtype='float64')
  expected = sum(windows.shifts(x, window))
  np.testing.assert_allclose(windows.overlap_add([x] * np.prod(size), window), expected, atol=1e-12)
  np.testing.assert_allclose(windows.window_sum(x, window), expected, atol=1e-12)
  g = normal(1, *expected.shape, dtype='float64')
  pulled = jax.vjp(lambda x: windows.window_sum(x, window), x)[1](g)[0]
  by_shifts = jax.vjp(lambda x: sum(windows.shifts(x, window)), x)[1](g)[0]
  np.testing.assert_allclose(pulled, by_shifts, atol=1e-12)
