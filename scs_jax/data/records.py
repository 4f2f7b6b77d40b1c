"""Data sets that do not fit in memory: records are read, decoded and cropped as they are needed.

Grain reads and decodes in threads, or in processes of its own. What happens to example `i` in epoch
`e` is keyed by (seed, e, i), and batch n is the same whatever the number of hosts and workers, so the
number of the next batch is all there is to save.
"""

import dataclasses
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import grain.python as grain
import numpy as np
from absl import flags
from PIL import Image

from scs_jax.data.batches import Order, rows_of, step_of
from scs_jax.data.examples import data_source, prepared_builder

_ENDLESS = 1 << 40  # rows
_THREADS = 16
# Inception's crops, as ImageNet has been trained since: share of the area, and width / height.
_AREA, _ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
_SHORTER_SIDE = 256 / 224  # before the centre crop, as a multiple of the resolution


@dataclasses.dataclass(frozen=True)
class Records:
  """Labelled images on disk.

  Attributes:
    name: of the data set.
    split: of it.
    source: the records, by number; `image` encoded, `label` an integer.
    resolution: height and width of the images after cropping.
    channels: of the images.
    num_classes: how many classes there are.
    workers: processes that decode; 0 is threads of this process.
  """

  name: str
  split: str
  source: Sequence[Any]
  resolution: int
  channels: int
  num_classes: int
  workers: int

  @property
  def size(self) -> int:
    """How many there are."""
    return len(self.source)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """`(height, width, channels)` after cropping."""
    return (self.resolution, self.resolution, self.channels)

  def read(self, index: int, crop: np.random.Generator | None) -> tuple[np.ndarray, int]:
    """Returns the image `[resolution, resolution, channels]` uint8 and the label of a record.

    Args:
      index: of the record.
      crop: draws a random crop and flip; None is the centre.

    Raises:
      ValueError: the record cannot be read or decoded.
    """
    try:
      record = self.source[index]
      image = Image.open(io.BytesIO(record['image']))
      box = _centre(image.size) if crop is None else _random_box(crop, image.size)
      pixels = _cut(image, box, self.resolution, 'RGB' if self.channels == 3 else 'L')
    except Exception as error:  # whatever the format's reader or PIL's decoder raises
      raise ValueError(
        f'record {index} of {self.name}, split {self.split!r}, cannot be decoded: {error}. Its file '
        'is damaged: prepare the data set again'
      ) from error
    if crop is not None and crop.random() < 0.5:
      pixels = pixels[:, ::-1]
    return pixels.reshape(self.image_shape), int(record['label'])


def load(
  name: str, split: str, *, data_dir: str | None, resolution: int, workers: int = 0
) -> Records:
  """Opens a split that TFDS prepared as array_record.

  Args:
    name: of a TFDS data set for image classification, e.g. 'imagenet2012'.
    split: in the syntax of TFDS.
    data_dir: where TFDS prepared it; None is TFDS's default.
    resolution: of the images after cropping.
    workers: processes that decode; 0 is threads of this process.

  Raises:
    ValueError: the data set is unknown or not prepared, or an argument is out of range.
  """
  for argument, value, least in (('resolution', resolution, 1), ('workers', workers, 0)):
    if value < least:
      raise ValueError(f'data.{argument} must be at least {least}, got {value}')
  builder = prepared_builder(name, data_dir)
  from tensorflow_datasets import decode  # late: it takes a second

  decoders = {'image': decode.SkipDecoding()}
  try:
    source = data_source(name, builder, split, data_dir, decoders=decoders)
  except (KeyError, ValueError) as error:
    sizes = {base: info.num_examples for base, info in builder.info.splits.items()}
    raise ValueError(
      f'split={split!r} cannot be read from the data set {name!r}, whose splits and their sizes are '
      f'{sizes}: {error}'
    ) from error
  features = builder.info.features
  channels = features['image'].shape[-1]
  return Records(name, split, source, resolution, channels, features['label'].num_classes, workers)


class TrainBatches:
  """An endless iterator over shuffled batches, as `batches.TrainBatches`, from records.

  Args and yields are those of `batches.TrainBatches`; images are random crops, flipped or not.
  """

  def __init__(
    self,
    records: Records,
    batch_size: int,
    *,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
  ) -> None:
    rows = rows_of(batch_size, process_index, process_count)
    self._example = _TrainExample(records, batch_size, rows, Order(records.size, seed), seed)
    self._rows, self._workers = len(rows), records.workers
    self._step, self._iterator = 0, None

  def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    if self._iterator is None:
      numbers = grain.MapDataset.range(self._step * self._rows, _ENDLESS)
      self._iterator = _batches(numbers.map(self._example), self._rows, self._workers)
    batch = next(self._iterator)
    self._step += 1
    return batch

  def state(self) -> dict[str, int]:
    """`{'step': n}`, where n is the number of the next batch; the same on every host."""
    return {'step': self._step}

  def restore(self, state: dict[str, Any]) -> None:
    """Continues from a state that `state` returned, here or on another host."""
    self._step, self._iterator = step_of(state), None


def evaluation_batches(
  records: Records, batch_size: int, *, process_index: int = 0, process_count: int = 1
) -> Iterator[dict[str, np.ndarray]]:
  """Every record once, in order, as `batches.evaluation_batches`; images are centre crops."""
  rows = rows_of(batch_size, process_index, process_count)
  count = -(-records.size // batch_size) * len(rows)
  numbers = grain.MapDataset.range(count).map(_EvaluationExample(records, batch_size, rows))
  return _batches(numbers, len(rows), records.workers)


@dataclasses.dataclass
class _HostRows:
  """Where row number i of this host stands among those of all hosts."""

  records: Records
  batch_size: int
  rows: np.ndarray

  def position(self, number: int) -> int:
    step, row = divmod(int(number), len(self.rows))
    return step * self.batch_size + int(self.rows[row])


@dataclasses.dataclass
class _TrainExample(_HostRows):
  """Makes row number i of this host; a class, because it is sent to the worker processes."""

  order: Order
  seed: int

  def __call__(self, number: int) -> dict[str, np.ndarray]:
    (epoch,), (index,) = self.order.locate(np.array([self.position(number)]))
    rng = np.random.default_rng((self.seed, int(epoch), int(index)))
    image, label = self.records.read(int(index), rng)
    return {'image': image, 'label': np.int32(label), 'epoch': epoch, 'index': index}


class _EvaluationExample(_HostRows):
  """Makes row number i of this host; those past the end weigh nothing."""

  def __call__(self, number: int) -> dict[str, np.ndarray]:
    position = self.position(number)
    image, label = self.records.read(min(position, self.records.size - 1), None)
    weight = np.float32(position < self.records.size)
    return {'image': image, 'label': np.int32(label), 'weight': weight}


def _batches(examples, rows, workers):
  options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=4 * rows)
  batches = examples.batch(rows).to_iter_dataset(options)
  if workers:
    if not flags.FLAGS.is_parsed():  # Grain reads flags of its own, which no main may have parsed
      flags.FLAGS.mark_as_parsed()
    batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
  return iter(batches)


def _random_box(rng, size):
  """Returns `(left, top, right, bottom)` of a crop of random area and aspect ratio."""
  width, height = size
  for _ in range(10):
    area = width * height * rng.uniform(*_AREA)
    aspect = math.exp(rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
    w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if 0 < w <= width and 0 < h <= height:
      left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
      return left, top, left + w, top + h
  return _centre(size, 1.0)


def _centre(size, shorter_side=_SHORTER_SIDE):
  """Returns the box of a square in the middle."""
  side = min(size) / shorter_side
  left, top = ((n - side) / 2 for n in size)
  return left, top, left + side, top + side


def _cut(image, box, resolution, mode):
  """Decodes what is in `box`, scaled to `[resolution, resolution]`."""
  width, height = image.size
  scale = max(min(box[2] - box[0], box[3] - box[1]) / resolution, 1.0)
  # A JPEG can be decoded at an eighth to a half of its size, for a fraction of the work.
  image.draft(mode, (math.ceil(width / scale), math.ceil(height / scale)))
  box = [
    edge * now / before
    for edge, now, before in zip(box, image.size * 2, (width, height) * 2, strict=True)
  ]
  image = image.convert(mode)
  cut = image.resize((resolution, resolution), Image.Resampling.BILINEAR, box, reducing_gap=3.0)
  return np.asarray(cut, np.uint8)
