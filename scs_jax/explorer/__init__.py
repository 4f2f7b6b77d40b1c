"""One page that shows a trained network at work, in any browser and without any connection."""

import base64
import importlib.resources
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging
from etils import epath
from flax import nnx

from scs_jax import data, train
from scs_jax.data import prepared
from scs_jax.errors import ArgumentError, UserError
from scs_jax.explorer.description import describe
from scs_jax.train import restore
from scs_jax.workdir import folder, write_whole

if TYPE_CHECKING:
  from scs_jax.data import records

__all__ = ['page', 'write']

SAMPLES = 20
SCRIPTS = ('elements', 'network', 'paint', 'picture', 'layers', 'page')


def write(workdir: str | os.PathLike, step: int | None = None) -> epath.Path:
  """Writes the page of a workdir's trained network.

  Some images of the evaluation set are in the page to choose from, unless that data set is absent.

  Args:
    workdir: where a run trained, a folder or `gs://`; its file `explorer.html` is written.
    step: of the checkpoint; None means the newest good one.

  Returns:
    The file.

  Raises:
    ArgumentError: as `scs_jax.load`, and if the page cannot show this network.
    scs_jax.workdir.CheckpointError: as `scs_jax.load`.
  """
  experiment = restore.experiment_of(workdir)
  model = train.trained(experiment, workdir, step)
  settings = experiment.config.data
  try:
    examples, names = experiment.eval_set, _class_names(settings.name, settings.data_dir)
  except UserError as error:
    logging.warning('the page has no images to choose from: %s', error)
    examples, names = None, None
  shape = experiment.sizes['input_shape']
  file = folder(workdir) / 'explorer.html'
  text = page(model, shape, title=experiment.name, examples=examples, class_names=names)
  write_whole(file, text.encode())
  return file


def page(
  model: nnx.Module,
  input_shape: Sequence[int],
  *,
  title: str,
  examples: 'data.Examples | records.Records | None' = None,
  class_names: Sequence[str] | None = None,
) -> str:
  """Returns a self-contained HTML page for a trained network.

  One can draw in it or open an image, and sees the class scores, every signed feature map and the
  contribution of every pixel at once. The weights are in the page, and plain JavaScript computes
  the network in float64.

  Args:
    model: an `ScsNet` of SCS layers, in evaluation mode.
    input_shape: `(height, width, channels)` of one image; 1 or 3 channels.
    title: heading of the page.
    examples: `data.Examples` or `data.records.Records`; a few are put in the page to choose from.
    class_names: one for each class; None numbers them from 0.

  Raises:
    ArgumentError: the page cannot show this network; the message says why.

  Example:
    >>> import scs_jax
    >>> from scs_jax import explorer
    >>> model = scs_jax.load('/tmp/quickstart')  # doctest: +SKIP
    >>> html = explorer.page(model, (28, 28, 1), title='quickstart')  # doctest: +SKIP
  """
  description = describe(model, input_shape)
  *_, classes = description['layers'][-1]['output']
  names = [str(i) for i in range(classes)] if class_names is None else list(class_names)
  if len(names) != classes:
    raise ArgumentError(f'class_names has {len(names)} names for a network of {classes} classes')
  samples = [] if examples is None else list(_samples(examples, classes))
  description |= {'title': title, 'classes': names, 'samples': samples}
  parts = {
    'styles': _read('page.css'),
    'scripts': '\n'.join(_read(f'{name}.js') for name in SCRIPTS),
    'description': json.dumps(description).replace('<', r'\u003c'),  # no text ends the element
  }
  return re.sub(r'{{(\w+)}}', lambda match: parts[match[1]], _read('page.html'))


def _read(name: str) -> str:
  return (importlib.resources.files(__name__) / name).read_text(encoding='utf-8')


def _samples(examples: 'data.Examples | records.Records', classes: int) -> Iterator[dict[str, Any]]:
  """Yields the first images of every class, the same number of each, about `SAMPLES` in all."""
  of_each = max(1, SAMPLES // classes)
  wanted = min(SAMPLES, of_each * classes)
  found: dict[int, list[np.ndarray]] = {}
  for batch in data.evaluation_batches(examples, 500):
    for image, label, weight in zip(batch['image'], batch['label'], batch['weight'], strict=True):
      images = found.setdefault(int(label), [])
      if weight and len(images) < of_each:
        images.append(image)
    if sum(map(len, found.values())) >= wanted:
      break
  for label, images in sorted(found.items())[:SAMPLES]:
    for image in images:
      yield {'label': label, 'pixels': base64.b64encode(image.tobytes()).decode()}


def _class_names(name: str, data_dir: str | None) -> list[str] | None:
  """Returns the names that TFDS has for the classes of a data set; None for others."""
  if name in data.EMBEDDED or name.partition(':')[2].isidentifier():  # a function of the user's own
    return None
  return list(prepared.builder(name, data_dir).info.features['label'].names)
