"""Data sets that do not fit in memory: images are read, decoded and cropped when they are needed.

Grain reads and decodes in threads, or in worker processes. The crop of example `i` in epoch `e` is
keyed by `(seed, e, i)`. Batch `n` does not depend on the number of hosts or workers, so the number
of the next batch is the whole state of the input pipeline.
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

from scs_jax.data import prepared
from scs_jax.data.batches import Order, rows_of, step_of
from scs_jax.errors import ArgumentError

_ENDLESS = 1 << 40  # rows
_THREADS = 16
# The random crops of Inception, in common use for ImageNet: share of the area, and width / height.
_AREA, _ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
_SHORTER_SIDE = 256 / 224  # shorter side of the image over the side of the centre crop

Box = tuple[float, float, float, float]  # left, top, right, bottom, pixels


@dataclasses.dataclass(frozen=True)
class Records:
  """Labelled images on disk.

  Attributes:
    name: the name of the data set.
    split: the split, in the syntax of TFDS.
    source: the records, indexed by number: `image` is encoded, `label` is an integer.
    resolution: height and width of the images after cropping, pixels.
    channels: the number of channels of the images.
    num_classes: the number of classes of the data set.
    workers: the number of processes that decode; 0 decodes in threads of this process.
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
    """The number of examples."""
    return len(self.source)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """`(height, width, channels)` after cropping."""
    return (self.resolution, self.resolution, self.channels)

  def read(self, index: int, crop: np.random.Generator | None) -> tuple[np.ndarray, int]:
    """Returns the image `[resolution, resolution, channels]` uint8 and the label of a record.

    Args:
      index: the number of the record.
      crop: draws a random crop and flip; None takes the centre crop.

    Raises:
      ArgumentError: the record cannot be read or decoded.
    """
    try:
      record = self.source[index]
      image = Image.open(io.BytesIO(record['image']))
      box = _centre(image.size) if crop is None else random_box(crop, image.size)
      pixels = _cut(image, box, self.resolution, 'RGB' if self.channels == 3 else 'L')
    except Exception as error:  # the reader and the decoder of PIL raise many classes
      raise ArgumentError(
        f'record {index} of {self.name}, split {self.split!r}, cannot be decoded: {error}. Its '
        'file is damaged: prepare the data set again'
      ) from error
    if crop is not None and crop.random() < 0.5:
      pixels = pixels[:, ::-1]
    return pixels.reshape(self.image_shape), int(record['label'])


def load(
  name: str, split: str, *, data_dir: str | None, resolution: int, workers: int = 0
) -> Records:
  """Opens a split that TFDS has prepared as array_record files.

  Args:
    name: a name for TFDS of a data set for image classification, such as `'imagenet2012'`.
    split: a split in the syntax of TFDS.
    data_dir: the folder of prepared data sets; None is the default of TFDS.
    resolution: height and width of the images after cropping, pixels.
    workers: the number of processes that decode; 0 decodes in threads of this process.

  Raises:
    ArgumentError: the data set is unknown or not prepared, or an argument is out of range.
    MissingPackageError: TFDS is not installed.
  """
  for argument, value, least in (('resolution', resolution, 1), ('workers', workers, 0)):
    if value < least:
      raise ArgumentError(f'data.{argument} must be at least {least}, got {value}')
  builder = prepared.builder(name, data_dir)
  decoders = {'image': prepared.import_tfds().decode.SkipDecoding()}
  try:
    source = prepared.data_source(name, builder, split, data_dir, decoders=decoders)
  except ArgumentError:
    raise
  except (KeyError, ValueError) as error:  # the split is unknown or misspelt
    sizes = {base: info.num_examples for base, info in builder.info.splits.items()}
    raise ArgumentError(
      f'split={split!r} cannot be read from the data set {name!r}, whose splits and their sizes '
      f'are {sizes}: {error}'
    ) from error
  features = builder.info.features
  channels = features['image'].shape[-1]
  return Records(name, split, source, resolution, channels, features['label'].num_classes, workers)


class TrainBatches:
  """An endless iterator over shuffled batches of records.

  Arguments and batches are those of `batches.TrainBatches`. Each image is a random crop, flipped
  from left to right with probability 1/2.
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
    """Returns `{'step': n}`, where `n` is the number of the next batch. All hosts agree on it."""
    return {'step': self._step}

  def restore(self, state: dict[str, Any]) -> None:
    """Continues from a state that `state` returned, on this host or another one.

    Raises:
      ArgumentError: `state` is not `{'step': n}`.
    """
    self._step, self._iterator = step_of(state), None


def evaluation_batches(
  records: Records, batch_size: int, *, process_index: int = 0, process_count: int = 1
) -> Iterator[dict[str, np.ndarray]]:
  """Returns an iterator over all records once, in order.

  Arguments and batches are those of `batches.evaluation_batches`. Each image is a centre crop.
  """
  rows = rows_of(batch_size, process_index, process_count)
  count = -(-records.size // batch_size) * len(rows)
  numbers = grain.MapDataset.range(count).map(_EvaluationExample(records, batch_size, rows))
  return _batches(numbers, len(rows), records.workers)


@dataclasses.dataclass
class _HostRows:
  """Translates the row numbers of this host to positions among the rows of all hosts."""

  records: Records
  batch_size: int
  rows: np.ndarray

  def position(self, number: int) -> int:
    step, row = divmod(int(number), len(self.rows))
    return step * self.batch_size + int(self.rows[row])


@dataclasses.dataclass
class _TrainExample(_HostRows):
  """Makes one row of this host. A class, because Grain pickles it for its worker processes."""

  order: Order
  seed: int

  def __call__(self, number: int) -> dict[str, Any]:
    (epoch,), (index,) = self.order.locate(np.array([self.position(number)]))
    # The upper half of a seed comes last: otherwise it could be taken for an epoch.
    words = (self.seed % 2**32, int(epoch), int(index), self.seed >> 32)
    rng = np.random.default_rng(words)
    image, label = self.records.read(int(index), rng)
    return {'image': image, 'label': np.int32(label), 'epoch': epoch, 'index': index}


class _EvaluationExample(_HostRows):
  """Makes one row of this host. Rows after the last record are padding of weight 0."""

  def __call__(self, number: int) -> dict[str, Any]:
    position = self.position(number)
    image, label = self.records.read(min(position, self.records.size - 1), None)
    weight = np.float32(position < self.records.size)
    return {'image': image, 'label': np.int32(label), 'weight': weight}


def _batches(
  examples: grain.MapDataset, rows: int, workers: int
) -> Iterator[dict[str, np.ndarray]]:
  """Returns an iterator that decodes ahead and stacks `rows` examples at a time."""
  options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=4 * rows)
  batches = examples.batch(rows).to_iter_dataset(options)
  if workers:
    # Grain reads absl flags. A program without absl's main has not parsed them.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
  return iter(batches)


def random_box(rng: np.random.Generator, size: tuple[int, int]) -> Box:
  """Returns the box of a crop with random area, aspect ratio and position.

  After ten crops that do not fit, it is the largest square in the middle.

  Args:
    rng: the source of randomness.
    size: `(width, height)` of the image, pixels.

  References:
    Szegedy et al. 2014, Going Deeper with Convolutions, https://arxiv.org/abs/1409.4842
  """
  width, height = size
  for _ in range(10):
    area = width * height * rng.uniform(*_AREA)
    aspect = math.exp(rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
    w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if 0 < w <= width and 0 < h <= height:
      left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
      return left, top, left + w, top + h
  return _centre(size, 1.0)


def _centre(size: tuple[int, int], shorter_side: float = _SHORTER_SIDE) -> Box:
  """Returns the box of the square in the middle. Its side is the shorter side / `shorter_side`."""
  side = min(size) / shorter_side
  left, top = ((n - side) / 2 for n in size)
  return left, top, left + side, top + side


def _cut(image: Image.Image, box: Box, resolution: int, mode: str) -> np.ndarray:
  """Decodes an image and scales the content of `box` to `[resolution, resolution]`."""
  width, height = image.size
  scale = max(min(box[2] - box[0], box[3] - box[1]) / resolution, 1.0)
  # JPEG can be decoded at 1/8, 1/4 or 1/2 of its size, for a fraction of the work.
  image.draft(mode, (math.ceil(width / scale), math.ceil(height / scale)))
  left, top, right, bottom = (
    edge * now / before
    for edge, now, before in zip(box, image.size * 2, (width, height) * 2, strict=True)
  )
  cut = image.convert(mode).resize(
    (resolution, resolution),
    Image.Resampling.BILINEAR,
    (left, top, right, bottom),
    reducing_gap=3.0,
  )
  return np.asarray(cut, np.uint8)
