"""Data sets that do not fit in memory: images are read, decoded and cropped when they are needed.

Grain reads and decodes in threads, or in worker processes. The crop of example `i` in epoch `e` is
keyed by `(seed, e, i)`. Batch `n` does not depend on the number of hosts or workers, so the number
of the next batch is the whole state of the input pipeline.

Bad records that `data.skip_bad_records` allows keep that property: in training the next good record
takes the place of a bad one, in every epoch and on every host; in evaluation a bad record has
weight 0.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import grain.python as grain
import numpy as np
from absl import flags
from PIL import Image

from scs_jax.data import crops, images, prepared, splits
from scs_jax.data.bad_records import BadRecordError, BadRecords
from scs_jax.data.batches import Order, rows_of, step_of
from scs_jax.data.examples import check_labels
from scs_jax.errors import ArgumentError

_ENDLESS = 1 << 40  # rows
_THREADS = 16
_SAMPLE = 64  # labels that are checked before the first batch


class Source(Protocol):
  """Records, indexed by number: `image` is encoded, `label` is an integer."""

  def __len__(self) -> int: ...

  def __getitem__(self, number: int, /) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Records:
  """Labelled images on disk.

  Attributes:
    name: the name of the data set.
    split: the split, in the syntax of TFDS.
    source: the records.
    resolution: height and width of the images after cropping, pixels.
    channels: the number of channels of the images.
    num_classes: the number of classes of the data set.
    workers: the number of processes that decode; 0 decodes in threads of this process.
    class_names: the names of the classes, or None.
    skip_bad_records: how many records each host may leave out because they are bad.
    bad_record: makes the error that names a record, from its number and what is wrong.
    evaluation_crop: one of `crops`, which makes the image to evaluate.
    bad: counts the bad records that this process has met.
  """

  name: str
  split: str
  source: Source
  resolution: int
  channels: int
  num_classes: int
  workers: int
  class_names: tuple[str, ...] | None = None
  skip_bad_records: int = 0
  bad_record: Callable[[int, Exception], BadRecordError] | None = None
  evaluation_crop: Callable[[Image.Image, int, int], Image.Image] = crops.inner
  bad: BadRecords = dataclasses.field(init=False, repr=False, compare=False)

  def __post_init__(self) -> None:
    for name, least in (('resolution', 1), ('workers', 0)):
      if getattr(self, name) < least:
        raise ArgumentError(f'data.{name} must be at least {least}, got {getattr(self, name)}')
    object.__setattr__(self, 'bad', BadRecords(len(self.source), self.skip_bad_records))

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
      BadRecordError: the record cannot be read or decoded.
      ArgumentError: its label is outside the classes.
    """
    try:
      record = self.source[index]
      image = images.begin(record['image'])
      if crop is None:
        cut = self.evaluation_crop(image, self.resolution, self.channels)
      else:
        cut = crops.random(image, self.resolution, self.channels, crop)
    except Exception as error:  # the reader and the decoder raise many classes
      raise self._bad_record(index, error) from error
    label = int(record['label'])
    self.check_labels([index], [label])
    pixels = images.pixels(cut)
    if crop is not None and crop.random() < 0.5:
      pixels = pixels[:, ::-1]
    return pixels, label

  def _bad_record(self, index: int, error: Exception) -> BadRecordError:
    if self.bad_record is None:
      return prepared.bad_record(self.name, self.split, index, error)
    return self.bad_record(index, error)

  def check_labels(self, numbers: Sequence[int], labels: Sequence[int]) -> None:
    """Raises ArgumentError unless the labels of these records are classes."""
    if all(0 <= label < self.num_classes for label in labels):
      return
    try:
      check_labels(np.array(labels), self.num_classes, numbers)
    except ArgumentError as error:
      error.add_note(splits.where(self.name, self.split))
      raise

  def count_bad(self, number: int) -> None:
    """Counts a record that a thread or a worker process found to be bad.

    Raises:
      BadRecordError: there are more of them than are allowed, or this one can be read now.
    """
    if number in self.bad:
      return
    try:
      self.read(number, None)
    except BadRecordError as error:
      self.bad.add(number, error)
      return
    # A batch must not depend on luck.
    error = self._bad_record(number, OSError('it was read at the second try only'))
    raise BadRecordError(error.problem, 'Check the disk or the network that holds it', '')


def load(
  name: str,
  split: str,
  *,
  data_dir: str | None,
  resolution: int,
  workers: int = 0,
  skip_bad_records: int = 0,
) -> Records:
  """Opens a split that TFDS has prepared as array_record files.

  A sample of the labels is checked here, and every label when its record is read.

  Args:
    name: a name for TFDS of a data set for image classification, such as `'imagenet2012'`.
    split: a split in the syntax of TFDS.
    data_dir: the folder of prepared data sets; None is the default of TFDS.
    resolution: height and width of the images after cropping, pixels.
    workers: the number of processes that decode; 0 decodes in threads of this process.
    skip_bad_records: how many records each host may leave out because they are bad.

  Raises:
    ArgumentError: the data set is unknown or not prepared, an argument is out of range, or a label
      is outside the classes.
    MissingPackageError: TFDS is not installed.
  """
  builder = prepared.builder(name, data_dir)
  try:
    source = prepared.data_source(name, builder, split, data_dir)
  except ArgumentError:
    raise
  except (KeyError, ValueError) as error:  # the split is unknown or misspelt
    sizes = {base: info.num_examples for base, info in builder.info.splits.items()}
    raise ArgumentError(
      f'split={split!r} cannot be read from the data set {name!r}, whose splits and their sizes '
      f'are {sizes}: {error}'
    ) from error
  records = Records(
    name,
    split,
    source,
    resolution,
    prepared.channels(name, builder),
    builder.info.features['label'].num_classes,
    workers,
    prepared.class_names(builder),
    skip_bad_records,
  )
  _check_sample(records)
  return records


def _check_sample(records: Records) -> None:
  """Checks evenly spaced labels. Those of a split without labels are all −1."""
  numbers, labels = [], []
  for number in np.unique(np.linspace(0, records.size - 1, _SAMPLE).astype(int)).tolist():
    try:
      label = int(records.source[number]['label'])
    except Exception:  # a bad record: reading its image will name it
      continue
    numbers.append(number)
    labels.append(label)
  records.check_labels(numbers, labels)


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
    batch = _counted(self._example.records, next(self._iterator))
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
  batches = _batches(numbers, len(rows), records.workers)
  return (_counted(records, batch) for batch in batches)


def _counted(records: Records, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Counts the bad records of a batch, and removes what `_HostRows` says about them."""
  first, bad = batch.pop('first'), batch.pop('bad')
  for row in np.flatnonzero(bad):
    for number in range(first[row], first[row] + bad[row]):
      records.count_bad(number % records.size)
  return batch


@dataclasses.dataclass
class _HostRows:
  """Translates the row numbers of this host to positions among the rows of all hosts.

  A row has, beside the arrays of a batch, `bad`: how many records from `first` on are bad and were
  passed over. The process that takes the batch counts them, whichever process decoded it.
  """

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
    index, bad = int(index), 0
    while True:
      # The upper half of a seed comes last: otherwise it could be taken for an epoch.
      words = (self.seed % 2**32, int(epoch), index, self.seed >> 32)
      try:
        image, label = self.records.read(
          (index + bad) % self.records.size, np.random.default_rng(words)
        )
        break
      except BadRecordError:
        if bad == self.records.skip_bad_records:
          raise
        bad += 1
    row = {'image': image, 'label': np.int32(label), 'epoch': epoch, 'index': np.int32(index)}
    return row | {'first': index, 'bad': bad}


class _EvaluationExample(_HostRows):
  """Makes one row of this host. Rows after the last record are padding of weight 0."""

  def __call__(self, number: int) -> dict[str, Any]:
    position = self.position(number)
    weight, index, bad = position < self.records.size, min(position, self.records.size - 1), 0
    try:
      image, label = self.records.read(index, None)
    except BadRecordError:
      if not self.records.skip_bad_records:
        raise
      image, label, weight, bad = np.zeros(self.records.image_shape, np.uint8), 0, False, 1
    row = {'image': image, 'label': np.int32(label), 'weight': np.float32(weight)}
    return row | {'first': index, 'bad': bad}


def _batches(
  examples: grain.MapDataset, rows: int, workers: int
) -> Iterator[dict[str, np.ndarray]]:
  """Returns an iterator that decodes ahead and stacks `rows` examples at a time."""
  ahead = 4 * rows
  options = grain.ReadOptions(num_threads=min(_THREADS, ahead), prefetch_buffer_size=ahead)
  batches = examples.batch(rows).to_iter_dataset(options)
  if workers:
    # Grain reads absl flags. A program without absl's main has not parsed them.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
  return iter(batches)
