"""What a network answers to each example of an evaluation, as a file."""

import io
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from scs_jax.workdir import write_whole

FILE = 'predictions.npz'


class Predictions:
  """Collects the logits of an evaluation, in the order of its examples.

  Example:
    >>> import numpy as np
    >>> from scs_jax.train.predictions import Predictions
    >>> found = Predictions()
    >>> found.add(np.zeros((2, 10)), np.array([3, 7]), np.array([1, 0]))  # the second is padding
    >>> found.arrays(step=5)['index']
    array([0])
  """

  def __init__(self) -> None:
    self._batches: list[dict[str, np.ndarray]] = []
    self._rows = 0

  def add(self, logits: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> None:
    """Adds a batch: `[batch, classes]`, `[batch]`, and `[batch]`, which is 0 for padding."""
    counts = np.asarray(weight) > 0
    index = self._rows + np.arange(len(counts))
    self._rows += len(counts)
    batch = {'logits': np.asarray(logits, np.float32), 'labels': np.asarray(labels), 'index': index}
    self._batches.append({name: rows[counts] for name, rows in batch.items()})

  def arrays(self, step: int, class_names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Returns `logits` `[examples, classes]` float32, `labels` and `index` `[examples]` integers,
    `class_names` `[classes]` text, and `step`.

    Args:
      step: of the checkpoint.
      class_names: in the order of the logits; None names them '0', '1' and so on.
    """
    joined = {name: np.concatenate([b[name] for b in self._batches]) for name in self._batches[0]}
    names = class_names or [str(label) for label in range(joined['logits'].shape[1])]
    return {**joined, 'class_names': np.array(names), 'step': np.array(step)}

  def write(self, folder: epath.Path, step: int, class_names: Sequence[str] | None) -> str:
    """Writes `arrays` to `predictions.npz`, which appears as a whole; process 0 does.

    Returns:
      '', or why there is no file: an evaluation may read a workdir that it cannot write to.
    """
    if jax.process_index():
      return ''
    file = io.BytesIO()
    arrays: dict[str, Any] = self.arrays(step, class_names)
    np.savez(file, **arrays)
    try:
      write_whole(folder / FILE, file.getvalue())
    except OSError as error:
      return f'no {FILE}: {error}'
    return ''
