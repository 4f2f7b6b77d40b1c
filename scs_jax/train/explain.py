"""A picture that explains what a trained network says about some images."""

import io
import os
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from etils import epath

from scs_jax import data, explanation, pictures
from scs_jax.train.experiment import Experiment
from scs_jax.train.restore import trained
from scs_jax.workdir import folder, write_whole

SHOWN = 10


def draw_explanations(
  experiment: Experiment, workdir: str | os.PathLike, step: int | None = None
) -> epath.Path:
  """Explains some images of the evaluation set: the first one of each class, ten in all.

  For each image the picture has the contributions to the two largest logits, on one scale, and says
  how far the sums of the contributions are from the logits.

  Args:
    experiment: that of the workdir.
    workdir: where the run trained; its `pictures/explanations.png` is written.
    step: of the checkpoint; None means the newest good one.

  Returns:
    The picture.

  Raises:
    ArgumentError: as `scs_jax.load`, and if the model has no logits.
    UserError: the model cannot be explained, see `scs_jax.explain`.
  """
  model = trained(experiment, workdir, step)
  images, labels = _first_of_each_class(experiment)
  x = np.asarray(images, np.float32) / 255
  first = explanation.explain(model, x)
  order = jnp.argsort(first.logits, axis=1, descending=True)
  both = [first]
  if order.shape[1] > 1:
    both.append(explanation.explain(model, x, order[:, 1]))
  names = experiment.class_names or [str(i) for i in range(order.shape[1])]
  maps = [np.asarray(one.contributions.sum(-1)) for one in both]  # channels are added
  error = max(float(one.error.max()) for one in both)
  picture = io.BytesIO()
  pictures.draw_explanations(
    x,
    [names[label] for label in labels],
    maps,
    [_titles(one, names) for one in both],
    f'largest error of a sum: {error:.1g} of the largest logit',
    picture,
  )
  path = folder(workdir) / 'pictures' / 'explanations.png'
  path.parent.mkdir(parents=True, exist_ok=True)
  write_whole(path, picture.getvalue())
  return path


def _titles(one: explanation.Explanation, names: Sequence[str]) -> list[str]:
  """Returns class and logit, and below them what the logit is the sum of, for each image."""
  values = np.asarray(one.contributions).reshape(len(one.constant), -1)
  positive, negative = np.maximum(values, 0).sum(1), np.minimum(values, 0).sum(1)
  rows = zip(map(int, one.classes), one.logit, positive, negative, one.constant, strict=True)
  return [
    f'{pictures.short(names[c])}: {logit:.2f}\n{plus:+.1f} {minus:+.1f} {constant:+.2f}'
    for c, logit, plus, minus, constant in rows
  ]


def _first_of_each_class(experiment: Experiment) -> tuple[list[np.ndarray], list[int]]:
  """Returns uint8 images and their labels, in the order of the labels."""
  found: dict[int, np.ndarray] = {}
  wanted = min(SHOWN, experiment.sizes['num_classes'])
  for batch in data.evaluation_batches(experiment.eval_set, 100):
    for image, label, weight in zip(batch['image'], batch['label'], batch['weight'], strict=True):
      if weight and len(found) < wanted:
        found.setdefault(int(label), image)
    if len(found) == wanted:
      break
  labels = sorted(found)
  return [found[label] for label in labels], labels
