# %% [markdown]
r"""
# A tour of scs_jax

The equation, a layer, a network, its kernels, an explanation, other light, a network of the
package, and export. The whole tour takes less than two minutes on one CPU core. The digits come
with a package, so nothing is downloaded.

This notebook is made from `tour.py`; see the [page of the folder](README.md).
"""

# %%
import importlib.util
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

import scs_jax
from scs_jax.train import Experiment, run
from scs_jax.train.config import default

EPOCHS = 16.0  # about a minute of training on one core
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix='tour-'))

test = scs_jax.data.load('mnist5k', 'test')
images = test.images / np.float32(255)  # [1000, 28, 28, 1], 0 to 1


def show(tiles, titles, limit=None):
  """Draws signed arrays: red is positive, blue negative. Without a limit each has its own scale."""
  _, axes = plt.subplots(1, len(tiles), figsize=(1.3 * len(tiles), 1.6), layout='compressed')
  for axis, tile, title in zip(axes, tiles, titles, strict=True):
    largest = limit or np.abs(tile).max()
    axis.imshow(tile, cmap='RdBu_r', vmin=-largest, vmax=largest)
    axis.set_title(title, fontsize=8)
    axis.set_axis_off()


# %% [markdown]
r"""
## The equation

Each output says how similar a patch $s$ of the image is to a kernel $k$:

$$\operatorname{scs}(s, k) = \operatorname{sign}(s \cdot k)
\left(\frac{|s \cdot k|}{(\lVert s \rVert + q)(\lVert k \rVert + q)}\right)^p$$

This is the equation in `jax.numpy`, for square kernels of odd size:
"""


# %%
def similarity(x, kernel, p, q):
  size, half = kernel.shape[0], kernel.shape[0] // 2
  window = jnp.arange(x.shape[1])[:, None] + jnp.arange(size)  # [28, 5]: the pixels of each window
  padded = jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
  s = padded[:, window][:, :, :, window]  # [batch, 28, 5, 28, 5, in]: every patch
  dot = jnp.einsum('nyaxbi,abio->nyxo', s, kernel)
  s_norm = jnp.sqrt((s**2).sum((2, 4, 5)))[..., None]
  k_norm = jnp.sqrt((kernel**2).sum((0, 1, 2)))
  c = dot / ((s_norm + q) * (k_norm + q))
  return jnp.sign(c) * jnp.abs(c) ** p


# %% [markdown]
r"""
`scs_jax.sharpened_cosine_similarity` computes the same without storing the patches, and its
derivatives are finite everywhere. Here one kernel is a patch of the digit itself, and the other is
its negative. The response is nearly 1 where the patch was cut out, and −1 for the negative.
A larger p leaves only the places that are most similar.
"""

# %%
digit = images[2:3]
patch = digit[0, 12:17, 16:21]  # [5, 5, 1]
kernel = np.stack([patch, -patch], axis=-1)  # [5, 5, 1, 2]
ours = similarity(digit, kernel, p=2.0, q=1e-3)
theirs = scs_jax.sharpened_cosine_similarity(digit, kernel, p=2.0, q=1e-3)
print(f'shape {theirs.shape}, largest difference {abs(ours - theirs).max():.1g}')
print(f'where the patch was: {theirs[0, 14, 18]}')

sharper = scs_jax.sharpened_cosine_similarity(digit, kernel, p=8.0, q=1e-3)
show(
  [digit[0, ..., 0], patch[..., 0], theirs[0, ..., 0], theirs[0, ..., 1], sharper[0, ..., 0]],
  ['digit', 'kernel', 'p = 2', 'negative, p = 2', 'p = 8'],
  limit=1,
)

# %% [markdown]
r"""
## A layer beside Conv

The layer takes the arguments of `nnx.Conv`, but has no bias. It learns its kernels, an exponent p
for each kernel, and one q. Its outputs stay between −1 and 1 whatever the scale of the image.
"""

# %%
arguments = {'in_features': 1, 'out_features': 8, 'kernel_size': (5, 5), 'strides': 2}
conv = nnx.Conv(**arguments, use_bias=False, rngs=nnx.Rngs(0))
scs = scs_jax.nnx.SharpenedCosineSimilarity(**arguments, rngs=nnx.Rngs(0))
for name, layer in (('Conv', conv), ('SCS', scs)):
  for scale in (1, 1000):
    y = layer(scale * images[:100])
    print(f'{name:4} of images × {scale:4}: shape {y.shape}, from {y.min():.3g} to {y.max():.3g}')
print('p:', scs.p, 'q:', scs.q)

# %% [markdown]
r"""
## A network, trained in a minute

`default` has every key of a config; these lines set what differs. The network has three SCS layers,
absolute max pooling and a linear head: no activation and no normalisation layer. Two settings make
it blind to light: `center` subtracts the mean of each patch and kernel, and the first layer has
q = 0.
"""

# %%
config = default('scs_net')
config.data.name = 'mnist5k'  # 4,000 digits to train on, 1,000 to test
config.augment.update(rotate=15.0, translate=0.1, scale=(0.85, 1.15), shear=10.0)
config.model.stack = (
  {'kind': 'scs', 'features': 11, 'window': 5, 'q_init': 0.0},
  {'kind': 'pool'},
  {'kind': 'scs', 'features': 12, 'window': 3},
  {'kind': 'pool'},
  {'kind': 'scs', 'features': 10, 'window': 3},
  {'kind': 'pool', 'window': 4},
  {'kind': 'head'},
)
config.model.update(q_init=0.1, scale_init=10.0, center=True)
config.update(batch_size=64, total_epochs=EPOCHS, ema_decay=0.99)
config.update(eval_every_epochs=EPOCHS / 2, save_every_epochs=EPOCHS)
values = run(Experiment(config), FOLDER / 'run')

# %% [markdown]
r"""
`scs_jax.load` needs neither the data nor the config: the workdir says what the network is.
"""

# %%
model = scs_jax.load(FOLDER / 'run')
predict = nnx.jit(lambda model, x: model(x))
logits = predict(model, images)
accuracy = lambda logits: f'{(logits.argmax(-1) == test.labels).mean():.1%}'
print('accuracy on the 1,000 test digits:', accuracy(logits))

# %% [markdown]
r"""
## Its kernels

A kernel of the first layer is a small picture of what it looks for. A patch that resembles it gives
a positive response, and the opposite patch a negative one. Pooling keeps whichever is larger in
magnitude. Above each response is its largest magnitude. It may exceed 1, because `scale_init` gives
the layers of this network a learned scale. The frames are the border: with `center`, the mean of
the image is outside.
"""

# %%
first = model.first_layer
kernels = np.moveaxis(np.asarray(first.kernel)[..., 0, :], -1, 0)  # [11, 5, 5]
show(kernels - kernels.mean((1, 2), keepdims=True), [f'p = {p:.1f}' for p in first.p])
responses = np.moveaxis(np.asarray(first(digit))[0], -1, 0)  # [11, 28, 28]
show([digit[0, ..., 0], *responses], ['digit', *(f'±{abs(r).max():.2f}' for r in responses)])

# %% [markdown]
r"""
## The exact explanation

`scs_jax.explain` writes a logit as a sum over the pixels, and a constant. The sum is complete up to
rounding. Red pixels speak for the class, blue ones against it.
"""

# %%
shown = [int(np.flatnonzero(test.labels == label)[0]) for label in (2, 3, 4, 7)]
explanation = scs_jax.explain(model, images[shown])
contributions = explanation.contributions.sum((1, 2, 3))
for i, (total, constant, logit) in enumerate(
  zip(contributions, explanation.constant, explanation.logit, strict=True)
):
  print(f'class {explanation.classes[i]}: {total:6.2f} + {constant:5.2f} = {logit:6.2f}')
print(f'largest relative error of a sum: {explanation.error.max():.1g}')

maps = np.asarray(explanation.contributions[..., 0])
limit = np.quantile(np.abs(maps), 0.995)
tiles = [tile for i, n in enumerate(shown) for tile in (images[n, ..., 0] * limit, maps[i])]
titles = [title for c in explanation.classes for title in ('digit', f'logit of {c}')]
show(tiles, titles, limit)

# %% [markdown]
r"""
## Other light

With q = 0 the first layer divides by the norms alone, so the contrast of an image changes nothing.
A power of two is exact in floating point, and then the logits are the same to the last bit. An
offset changes nothing because the layers are centred, up to rounding.
"""

# %%
lights = {
  'as it is': images,
  'contrast / 1024': images / 1024,
  'contrast × 0.3': images * np.float32(0.3),
  'brightness + 0.5': images + np.float32(0.5),
}
for light, x in lights.items():
  found = predict(model, x)
  change = np.abs(found - logits).max()
  print(f'{light:16}: {accuracy(found)}, logits change by at most {change:.2g}')

# %% [markdown]
r"""
## A network of the package

`scs_jax.pretrained.names()` lists the networks in the package. The card of a network says how it
was trained, and its accuracy on all test images. This one is not centred and its q is not 0, so it
is not blind to light. It may have seen these digits in training.
"""

# %%
card = scs_jax.pretrained.card('mnist_1382')
print(f'{card["parameters"]} parameters, {card["accuracy"]:.2%} on {card["evaluated_on"]}')
print(f'over seeds: {card["accuracy_over_seeds"]}')
print(card['command'])
shipped = scs_jax.load('mnist_1382')
for light, x in lights.items():
  print(f'{light:16}: {accuracy(predict(shipped, x))}')

# %% [markdown]
r"""
## Export

A safetensors file holds the arrays by name, and `scs_jax.load` makes the network again. StableHLO
holds the whole computation for any batch size: a program runs it with JAX, without scs_jax.
"""

# %%
scs_jax.export.to_safetensors(model, FOLDER / 'digits.safetensors')
again = scs_jax.load(FOLDER / 'digits.safetensors')
print('same logits from safetensors:', bool((predict(again, images) == logits).all()))

if importlib.util.find_spec('flatbuffers'):  # pip install 'scs-jax[export]'
  scs_jax.export.to_stablehlo(model, FOLDER / 'digits.stablehlo')
  exported = jax.export.deserialize(bytearray((FOLDER / 'digits.stablehlo').read_bytes()))
  difference = np.abs(exported.call(images) - logits).max()
  print(f'largest difference from StableHLO: {difference:.1g}')
