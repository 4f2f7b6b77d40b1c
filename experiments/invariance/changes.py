"""Changes of illumination: what a camera, a lamp or a different scanner does to an image.

Images are not clipped. A network sees the changed values as they are, so the changes are those of
the light and not of a display.
"""

import jax
import jax.numpy as jnp


def illuminations(x: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
  """Returns changed images by name.

  Args:
    x: images from 0 to 1, `[n, height, width, channels]`.
    key: of the contrast of each image.
  """
  height, width = x.shape[1:3]
  across = jnp.linspace(0.2, 1.8, width)[:, None]
  down = jnp.linspace(0.2, 1.8, height)[:, None, None]
  # Uniform in the logarithm, from 0.01 to 1.
  own = 10 ** jax.random.uniform(key, (len(x), 1, 1, 1), minval=-2.0, maxval=0.0)
  return {
    'none': x,
    **{f'contrast × {c:g}': c * x for c in (0.3, 0.1, 0.03, 0.001, 255.0)},
    'contrast of each image × 0.01 to 1': own * x,
    **{f'offset + {b:g}': x + b for b in (0.1, 0.3, 1.0)},
    'contrast × 0.5, offset + 0.5': 0.5 * x + 0.5,
    **{f'gamma {g:g}': x**g for g in (0.5, 2.0)},
    'light from the left, × 0.2 to 1.8': x * across,
    'light from above, × 0.2 to 1.8': x * down,
  }
