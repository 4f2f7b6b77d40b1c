"""NumPy oracles of the ops, and random cases to run them on.

The oracles are float64 loops that follow the equations. They do not use JAX.
"""

import math
import types

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

EPSILON = 1e-6


def cosine(x, kernel, q=0.0, kernel_q=None, *, center=False, **window):
  """Returns c = (s·k) / ((|s| + q)(|k| + kernel_q)) of every patch and kernel; 0 if undefined.

  With `center`, patches and kernels lose their means, and outside of an image is its mean.
  """
  q, kernel_q = _per_kernel(q, kernel_q, kernel)
  if center:
    x = _without_mean(x, window.get('feature_group_count', 1))

  def compare(s, k, o):
    if center:
      s, k = _deviations(s), _deviations(k)
    return _ratio(np.sum(s * k), np.sqrt(np.sum(s * s)), np.sqrt(np.sum(k * k)), q[o], kernel_q[o])

  return _slide(compare, x, kernel, **window)


def soft_cosine(x, kernel, mixing, q=0.0, kernel_q=None, **window):
  """Returns c = sᵀMk / ((√sᵀMs + q)(√kᵀMk + kernel_q)) with M = A·Aᵀ; 0 if undefined."""
  q, kernel_q = _per_kernel(q, kernel_q, kernel)
  a = np.asarray(mixing, np.float64)
  m = a @ a.T

  def compare(s, k, o):
    s, k = s.ravel(), k.ravel()
    return _ratio(s @ m @ k, np.sqrt(s @ m @ s), np.sqrt(k @ m @ k), q[o], kernel_q[o])

  return _slide(compare, x, kernel, **window)


def soft_condition(x, kernel, mixing, q=0.0, kernel_q=None, **window):
  """Returns the factor by which c magnifies rounding errors of s and k.

  It is |A||s| / (√sᵀMs + q) plus the same expression of k.
  """
  q, kernel_q = _per_kernel(q, kernel_q, kernel)
  a = np.asarray(mixing, np.float64)

  def magnify(v, added):
    length = np.linalg.norm(a.T @ v) + added
    return np.linalg.norm(a) * np.linalg.norm(v) / length if length else 0.0

  def compare(s, k, o):
    return magnify(s.ravel(), q[o]) + magnify(k.ravel(), kernel_q[o])

  return _slide(compare, x, kernel, **window)


def centered_condition(x, kernel, q=0.0, kernel_q=None, **window):
  """Returns the factor by which a centred c magnifies rounding errors of images and kernels.

  They are relative to the largest value of the image and to the norm of the kernel before it is
  centred, while c is relative to the deviations from the mean.
  """
  q, kernel_q = _per_kernel(q, kernel_q, kernel)
  largest = np.abs(np.asarray(x, np.float64)).max(initial=0.0)
  x = _without_mean(x, window.get('feature_group_count', 1))

  def magnify(size, v, added):
    length = np.linalg.norm(_deviations(v)) + added
    return size / length if length > 0 else 0.0

  def compare(s, k, o):
    return magnify(2 * largest * s.size**0.5, s, q[o]) + magnify(np.linalg.norm(k), k, kernel_q[o])

  return _slide(compare, x, kernel, **window)


def _without_mean(x, groups):
  x = np.array(x, np.float64)
  for image in x:
    for group in np.split(image, groups, -1):
      group[...] = _deviations(group)
  return x


def _deviations(v):
  above = v - v.flat[0]  # The deviations of equal values are exactly 0.
  return above - above.mean()


def equation(c, p):
  """Returns sign(c) |c|^p."""
  return np.sign(c) * np.abs(c) ** p


def smooth(c, p):
  """Returns c (c² + ε²)^((p-1)/2)."""
  return c * (c * c + EPSILON**2) ** ((p - 1) / 2)


def abs_max_pool(x, window_shape, strides=None, padding='VALID'):
  """Returns the value of largest magnitude in every window: a beats -a, padding alone gives 0."""
  rank = x.ndim - 2
  window_shape, strides = _entries(window_shape, rank), _entries(strides or 1, rank)
  lows, positions = _positions(x.shape[1:-1], window_shape, strides, padding, (1,) * rank)
  y = np.zeros((len(x), *positions, x.shape[-1]))
  for index in np.ndindex(*y.shape):
    batch, *position, feature = index
    best = None
    for tap in np.ndindex(*window_shape):
      place = tuple(
        n * s - low + t for n, s, low, t in zip(position, strides, lows, tap, strict=True)
      )
      if all(0 <= n < size for n, size in zip(place, x.shape[1:-1], strict=True)):
        value = float(x[(batch, *place, feature)])
        if best is None or abs(value) > abs(best) or (abs(value) == abs(best) and value > best):
          best = value
    y[index] = 0.0 if best is None else best
  return y


def _ratio(dot, s_norm, k_norm, q, kernel_q):
  denominator = (s_norm + q) * (k_norm + kernel_q)
  return dot / denominator if denominator > 0 else 0.0


def _slide(compare, x, kernel, strides=1, padding='SAME', kernel_dilation=1, feature_group_count=1):
  """Calls `compare(s, k, o)` for every patch s and the kernel k of index o."""
  x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
  rank, groups = x.ndim - 2, feature_group_count
  strides, dilation = _entries(strides, rank), _entries(kernel_dilation, rank)
  *window, features, out = kernel.shape
  lows, positions = _positions(x.shape[1:-1], window, strides, padding, dilation)
  y = np.zeros((len(x), *positions, out))
  for batch in range(len(x)):
    for position in np.ndindex(*positions):
      for o in range(out):
        group = o // (out // groups)
        s = np.zeros((*window, features))
        for tap in np.ndindex(*window):
          place = tuple(
            n * stride - low + t * step
            for n, stride, low, t, step in zip(position, strides, lows, tap, dilation, strict=True)
          )
          if all(0 <= n < size for n, size in zip(place, x.shape[1:-1], strict=True)):
            s[tap] = x[(batch, *place)][group * features : (group + 1) * features]
        y[(batch, *position, o)] = compare(s, kernel[..., o], o)
  return y


def _positions(spatial, window, strides, padding, dilation):
  """Returns the low padding and the number of positions, for every spatial dimension."""
  lows, positions = [], []
  for i, size in enumerate(spatial):
    reach = (window[i] - 1) * dilation[i] + 1
    if padding == 'SAME':
      number = math.ceil(size / strides[i])
      low = max((number - 1) * strides[i] + reach - size, 0) // 2
    else:
      low, high = (0, 0) if padding == 'VALID' else _entries(_entries(padding, len(spatial))[i], 2)
      number = (size + low + high - reach) // strides[i] + 1
    lows.append(low)
    positions.append(number)
  return lows, positions


def _per_kernel(q, kernel_q, kernel):
  out = kernel.shape[-1]
  q = np.broadcast_to(np.asarray(q, np.float64), (out,))
  return q, q if kernel_q is None else np.broadcast_to(np.asarray(kernel_q, np.float64), (out,))


def _entries(value, number):
  return (value,) * number if isinstance(value, int) else tuple(value)


@st.composite
def window_cases(draw):
  """Draws the arguments of a sliding window and an image size that it fits."""
  rank = draw(st.integers(1, 3))
  largest = 2 if rank == 3 else 3
  per_dimension = lambda values: st.one_of(values, st.tuples(*[values] * rank))
  edge = st.integers(0, 1 if rank == 3 else 2)
  window = draw(st.tuples(*[st.integers(1, largest)] * rank))
  strides = draw(per_dimension(st.integers(1, 3)))
  dilation = draw(per_dimension(st.integers(1, 2)))
  padding = draw(
    st.one_of(
      st.sampled_from(['SAME', 'VALID']),
      edge,
      st.tuples(*[st.one_of(edge, st.tuples(edge, edge))] * rank),
    )
  )
  smallest = [1] * rank
  if padding != 'SAME':
    for i, (size, step) in enumerate(zip(window, _entries(dilation, rank), strict=True)):
      edges = (0,) if padding == 'VALID' else _entries(_entries(padding, rank)[i], 2)
      smallest[i] = max(1, (size - 1) * step + 1 - sum(edges))
  spatial = tuple(draw(st.integers(n, n + (3 if rank == 3 else 5))) for n in smallest)
  return types.SimpleNamespace(
    batch=draw(st.integers(1, 2)),
    spatial=spatial,
    window=window,
    strides=strides,
    dilation=dilation,
    padding=padding,
    groups=draw(st.sampled_from([1, 1, 2, 3])),
    features_per_group=draw(st.sampled_from([1, 1, 2, 3])),
    kernels_per_group=draw(st.integers(1, 3)),
    seed=draw(st.integers(0, 2**32 - 1)),
  )


@st.composite
def similarity_cases(draw):
  """Draws the arguments of a similarity, as NumPy arrays and Python numbers.

  A third of the inputs are zero in one half, some are far from unit scale, and the dtypes of input
  and kernel may differ. `p` is an int, a float, a scalar array or one value for each kernel.
  """
  case = draw(window_cases())
  random = np.random.default_rng(case.seed)
  features, out = case.groups * case.features_per_group, case.groups * case.kernels_per_group
  x = random.normal(size=(case.batch, *case.spatial, features))
  x *= draw(st.sampled_from([1.0, 1.0, 0.01, 30.0]))
  if draw(st.integers(0, 2)) == 0:
    x[:, : 1 + case.spatial[0] // 2] = 0
  kernel = random.normal(size=(*case.window, case.features_per_group, out))
  dtypes = st.sampled_from(['float64', 'float32', 'bfloat16', 'float16'])
  x_dtype = draw(dtypes)
  scalar_p = st.floats(0.1, 20)
  scalar_q = st.one_of(st.just(0.0), st.floats(1e-3, 10))
  per_kernel = lambda values: st.lists(values, min_size=out, max_size=out).map(np.array)
  case.x, case.kernel, case.x_dtype = x, kernel, x_dtype
  case.kernel_dtype = draw(st.one_of(st.just(x_dtype), dtypes))
  case.p = draw(
    st.one_of(st.integers(1, 20), scalar_p, scalar_p.map(np.asarray), per_kernel(scalar_p))
  )
  case.q = draw(st.one_of(scalar_q, per_kernel(scalar_q)))
  case.kernel_q = draw(st.one_of(st.none(), st.just(0.0), scalar_q, per_kernel(scalar_q)))
  case.arguments = {
    'strides': case.strides,
    'padding': case.padding,
    'kernel_dilation': case.dilation,
    'feature_group_count': case.groups,
  }
  case.center = math.prod(kernel.shape[:-1]) > 1 and draw(st.booleans())
  return case


def assert_sharpened(y, c, p, c_error, accumulation):
  """Asserts that `y` is the sharpened `c`, where `c` has an error of at most `c_error`.

  The smooth form is increasing, so y must lie between its values at c - c_error and c + c_error.
  (For p < 1 it is steep near 0, and this interval is wide.) Further errors are allowed for three
  reasons. exp(z) with z = (p-1)/2·log(c² + ε²) has a relative error of about |z| roundings. The
  result is rounded to the dtype of y. Values below the smallest number of that dtype may become 0.

  Where |c| ≥ 1e-3, y must also equal the equation, up to the relative error |p-1| ε²/2c² that the
  documentation states.

  Args:
    y: the output of the op, a NumPy array of its dtype.
    c: exact similarities, float64.
    p: float64, scalar or one for each kernel.
    c_error: bound on the error of c, float64.
    accumulation: dtype in which the power was computed.
  """
  assert not np.isnan(y.astype(np.float64)).any()
  rounding, smallest = ml_dtypes.finfo(y.dtype).eps, ml_dtypes.finfo(y.dtype).smallest_subnormal
  power_eps = np.finfo(accumulation).eps
  absolute = max(float(smallest), float(np.finfo(np.float32).tiny))
  y, p = y.astype(np.float64), np.asarray(p, np.float64)
  exponent = np.abs((p - 1) / 2 * np.log(c * c + EPSILON**2))

  def check(form, where, relative):
    low, high = form(np.clip(c - c_error, -1, 1), p), form(np.clip(c + c_error, -1, 1), p)
    slack = (relative + float(rounding)) * np.maximum(np.abs(low), np.abs(high)) + absolute
    wrong = where & ~((low - slack <= y) & (y <= high + slack))
    assert not wrong.any(), (
      f'{wrong.sum()} of {wrong.size} are wrong: y {y[wrong][:5]}, should be between '
      f'{low[wrong][:5]} and {high[wrong][:5]}, c {c[wrong][:5]}, p {p}'
    )

  roundings = power_eps * (2 * exponent + 8)
  check(smooth, np.full(c.shape, True), roundings)
  apart = np.abs(p - 1) * EPSILON**2 / (2 * np.maximum(c * c, 1e-6))
  check(equation, np.abs(c) >= 1e-3, roundings + 2 * apart)
