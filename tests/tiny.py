"""The data set `tiny`, prepared as `tfds build` would, without TensorFlow."""

import io

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from scs_jax.data import Examples

CLASSES = 3
SHAPE = (4, 5, 1)


def pictures(count: int, first: int = 0) -> list[tuple[np.ndarray, int]]:
  return [(np.full(SHAPE, first + i, np.uint8), i % CLASSES) for i in range(count)]


def features(**changes) -> dict:
  kinds = {
    'image': tfds.features.Image(shape=SHAPE, encoding_format='png'),
    'label': tfds.features.ClassLabel(num_classes=CLASSES),
  } | changes
  return {key: kind for key, kind in kinds.items() if kind is not None}


def prepare(data_dir, kinds: dict, splits: dict, file_format: str = 'array_record') -> None:
  """Writes the data set `tiny` as `tfds build` would, without TensorFlow.

  An image is an array, or the bytes of an encoded picture.
  """

  class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self, features=tfds.features.FeaturesDict(kinds), disable_shuffling=True
      )

    def _split_generators(self, dl_manager):
      return {split: self._generate_examples(rows) for split, rows in splits.items()}

    def _generate_examples(self, rows):
      for i, (image, label) in enumerate(rows):
        if isinstance(image, bytes):
          image = io.BytesIO(image)
        else:  # a PIL image, because TFDS encodes arrays by TensorFlow
          image = PIL.Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        row = {'image': image, 'label': label}
        yield i, {key: row[key] for key in kinds}

  Tiny(data_dir=data_dir, file_format=file_format).download_and_prepare()


def encoded(folder, rows, channels=3) -> dict[str, str]:
  """Prepares encoded pictures and labels; returns the arguments of `load` that find them."""
  image = tfds.features.Image(shape=(None, None, channels))
  prepare(folder / 'prepared', features(image=image), {'train': rows})
  return {'data_dir': str(folder / 'prepared'), 'cache_dir': str(folder / 'cache')}


def brightness(examples: Examples) -> list[int]:
  assert (examples.images == examples.images[:, :1, :1]).all()
  return examples.images[:, 0, 0, 0].tolist()
