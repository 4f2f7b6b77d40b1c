"""How many images a second a core can read, decode, crop and flip for ImageNet.

python experiments/streaming/run.py

Makes 400 JPEGs of 500 x 375 pixels, as large as ImageNet's are on average, from photographs of
CIFAR-10 that are scaled up and laid side by side; prepares them with TFDS and streams them at 224.
"""

import json
import os
import pathlib
import sys
import tempfile
import time

import numpy as np
from absl import app
from PIL import Image

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from results import origin  # noqa: E402

from scs_jax.data import load, records  # noqa: E402

COUNT, WIDTH, HEIGHT, BATCH, BATCHES = 400, 500, 375, 64, 200


def prepare(folder: str) -> int:
  """Writes the data set `photographs`; returns the bytes of its JPEGs on average."""
  import tensorflow_datasets as tfds

  photographs = load('cifar10', 'test').images
  rng = np.random.default_rng(0)
  sizes = []

  def make() -> Image.Image:
    """Four by three photographs, enlarged to the size and with the grain of a camera."""
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
  """Returns images a second, without the first batch."""
  data = records.load('photographs', 'train', data_dir=folder, resolution=224, workers=workers)
  batches = records.TrainBatches(data, BATCH, seed=0)
  next(batches)
  begun = time.perf_counter()
  for _ in range(BATCHES):
    next(batches)
  return BATCH * BATCHES / (time.perf_counter() - begun)


def main(_) -> None:
  cores = len(os.sched_getaffinity(0))
  with tempfile.TemporaryDirectory() as folder:
    result = {'bytes of a JPEG': prepare(folder), 'cores': cores}
    for workers in (0, cores):
      result[f'images/s, {workers} workers'] = round(rate(folder, workers))
  result['images/s and core'] = round(max(v for k, v in result.items() if 'workers' in k) / cores)
  print(json.dumps(result, indent=1))
  (HERE / 'results.json').write_text(json.dumps({**result, **origin()}, indent=1) + '\n')


if __name__ == '__main__':
  app.run(main)
