"""Measures how many images per second a core reads, decodes, crops and flips for ImageNet.

python -m experiments.streaming

Makes 400 JPEGs of 500 × 375 pixels, ImageNet's average size, from images of CIFAR-10 that are
enlarged and laid side by side. Prepares them with TFDS and streams them at 224 pixels. Adds lines
to results.jsonl and writes the table of the README from them.
"""

import os
import pathlib
import tempfile
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from experiments.flags import run
from experiments.results import append, newest, read, write_between
from scs_jax import data

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / 'results.jsonl'
COUNT, WIDTH, HEIGHT, BATCH, BATCHES = 400, 500, 375, 64, 200


def prepare(folder: str) -> int:
  """Writes the data set `photographs`; returns the average size of its JPEGs in bytes."""
  import tensorflow_datasets as tfds  # late, because it takes seconds

  photographs = data.load('cifar10', 'test').images
  rng = np.random.default_rng(0)
  sizes = []

  def make() -> Image.Image:
    """Returns four by three images of CIFAR-10, enlarged, with the grain of a camera."""
    rows = [np.concatenate(photographs[rng.integers(10_000, size=4)], 1) for _ in range(3)]
    image = Image.fromarray(np.concatenate(rows)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 6, (HEIGHT, WIDTH, 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))

  class Photographs(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      image = tfds.features.Image(shape=(None, None, 3), encoding_format='jpeg')
      label = tfds.features.ClassLabel(num_classes=1000)
      features = tfds.features.FeaturesDict({'image': image, 'label': label})
      return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
      return {'train': self._generate_examples()}

    def _generate_examples(self):
      for i in range(COUNT):
        path = pathlib.Path(folder, f'{i}.jpg')
        make().save(path, quality=90)
        sizes.append(path.stat().st_size)
        yield i, {'image': str(path), 'label': i % 1000}

  Photographs(data_dir=folder, file_format='array_record').download_and_prepare()
  return round(np.mean(sizes))


def rate(folder: str, workers: int) -> float:
  """Returns images per second, without the first batch."""
  examples = data.load('photographs', 'train', data_dir=folder, resolution=224, workers=workers)
  batches = data.train_batches(examples, BATCH, seed=0)
  next(batches)
  begun = time.perf_counter()
  for _ in range(BATCHES):
    next(batches)
  return BATCH * BATCHES / (time.perf_counter() - begun)


def table(lines: Iterable[Mapping[str, Any]]) -> str:
  """Returns a Markdown table of the newest line for each number of workers."""
  rows = ['| decoded by | images/s | images/s and core |', '|---|---|---|']
  for line in newest(lines, 'workers'):
    workers, images = line['workers'], line['images_per_second']
    by = f'{workers} worker processes' if workers else 'threads of the training process'
    rows.append(f'| {by} | {images} | {images / line["cores"]:.0f} |')
  return '\n'.join(rows)


def main(_) -> None:
  cores = len(os.sched_getaffinity(0))
  with tempfile.TemporaryDirectory() as folder:
    jpeg_bytes = prepare(folder)
    for workers in (0, cores):
      values = {
        'cores': cores,
        'jpeg_bytes': jpeg_bytes,
        'images_per_second': round(rate(folder, workers)),
      }
      append(RESULTS, {'workers': workers}, values)
  text = table(read(RESULTS))
  write_between(HERE / 'README.md', 'table', text)
  print(text)


if __name__ == '__main__':
  run(main)
