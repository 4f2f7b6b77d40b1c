"""Trains rows as run.py does, but with the images and the whole loop on one accelerator.

python experiments/reproduce/on_device.py --row=cifar10_99254_cutout --workdir=DIR

A GPU takes less than a millisecond for a step of these small networks; to start its kernels from the
host takes longer. Here all steps of a run are one program. Batches, random numbers and steps are those
of scs_jax.train; so is the checkpoint that is left in the workdir, after the last step and no earlier:
a run that is stopped begins again.
"""

import dataclasses
import functools
import pathlib
import sys
import time

from absl import app, flags

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

import jax  # noqa: E402
import mirrored  # noqa: E402
import numpy as np  # noqa: E402
from flax import nnx  # noqa: E402
from rows import ROWS  # noqa: E402
from trials import Trial, add_missing, result, seeds  # noqa: E402

from scs_jax import data, losses, metrics, models, optim, train  # noqa: E402
from scs_jax.checkpoint import Checkpoints  # noqa: E402
from scs_jax.data import augment, batches, sources  # noqa: E402
from scs_jax.workdir import claim, folder, holds_run  # noqa: E402

ROW = flags.DEFINE_multi_enum('row', None, list(ROWS), 'Which; may be given again.', required=True)
SEEDS = flags.DEFINE_integer(
  'seeds', None, 'Seeds up to this one, exclusive; what the row asks for.'
)
FIRST = flags.DEFINE_integer('first_seed', 0, 'Where to begin.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Gets a folder for each run.', required=True)
RESULTS = flags.DEFINE_string('results', str(HERE / 'results.jsonl'), 'Gets a line for each run.')


class OnDevice:
  """A config whose examples are on the device, and the programs that train and evaluate it."""

  def __init__(self, config):
    load = functools.partial(sources.load, config.data.name, data_dir=config.data.data_dir)
    self.examples, self.eval_set = load(config.data.train_split), load(config.data.eval_split)
    self.steps = max(1, round(config.total_epochs * self.examples.size / config.batch_size))
    self.optimizer = optim.make(self.steps, **config.optimizer.to_dict())
    self.graph, _ = self.split(config)
    self.program = None  # compiled for the first seed, which is an argument: for all others too
    objective = losses.OBJECTIVES[config.objective]
    self.eval_step = jax.jit(train.make_eval_step(self.graph, objective, gather=_whole))
    self.images = jax.device_put(self.examples.images)
    self.labels = jax.device_put(self.examples.labels)

  def split(self, config):
    """Returns the structure of the model, and the function that makes the first state."""
    sizes = {'input_shape': self.examples.image_shape, 'num_classes': self.examples.num_classes}
    build = lambda: models.build(**config.model.to_dict(), **sizes, rngs=nnx.Rngs(config.seed))
    return train.split_model(build, self.optimizer, averaged=config.ema_decay is not None)

  def _run(self, config, seed, images, labels, state, order):
    """Makes all steps; `order` has the epoch and the index of each example, `[steps, batch]`."""
    step = train.make_train_step(
      self.graph,
      self.optimizer,
      objective=losses.OBJECTIVES[config.objective],
      augmentation=augment.make(**config.augment),
      label_smoothing=config.label_smoothing,
      ema_decay=config.ema_decay,
      seed=seed,
      gather=_whole,
    )

    def body(state, seen):
      batch = {'image': images[seen['index']], 'label': labels[seen['index']], **seen}
      state, values = step(state, batch)
      return state, values['loss']

    return jax.lax.scan(body, state, order)

  def train(self, config):
    """Returns the last state, the loss of every step `[steps]`, and the seconds it took."""
    _, make_state = self.split(config)
    order = batches.Order(self.examples.size, config.seed)
    epoch, index = order.locate(np.arange(self.steps * config.batch_size))
    order = {'epoch': epoch, 'index': index}
    order = {name: a.reshape(self.steps, config.batch_size) for name, a in order.items()}
    arguments = (
      config.seed,
      self.images,
      self.labels,
      jax.jit(make_state)(),
      jax.device_put(order),
    )
    if self.program is None:
      run = functools.partial(self._run, config)
      self.program = jax.jit(run, donate_argnums=3).lower(*arguments).compile()
    begun = time.perf_counter()
    state, loss = jax.block_until_ready(self.program(*arguments))
    return state, np.asarray(loss), time.perf_counter() - begun

  def evaluate(self, config, state):
    """Returns the means over all examples of the evaluation split."""
    sums = [
      self.eval_step(state, rows)
      for rows in data.evaluation_batches(self.eval_set, config.eval_batch_size)
    ]
    return {
      f'val/{name}': v for name, v in metrics.means(jax.tree.map(lambda *x: sum(x), *sums)).items()
    }


def _whole(params):
  return params


def answer(row: str, trial: Trial, on_device: OnDevice, workdir: pathlib.Path) -> dict:
  """Trains, evaluates and saves; what was trained with flips is also mirrored to test it.

  Raises:
    SystemExit: `workdir` holds a run already, or the loss is not a number any more.
  """
  config = trial.load()
  home = folder(str(workdir))
  if holds_run(home):
    raise SystemExit(f'--workdir {workdir} holds a run: go on with run.py, or choose another')
  state, loss, seconds = on_device.train(config)
  if not np.isfinite(loss).all():
    raise SystemExit(f'{workdir}: the loss of step {np.isfinite(loss).argmin() + 1} is not finite')
  values = on_device.evaluate(config, state)
  with (
    claim(home, config.to_json_best_effort(indent=2), train.MAY_CHANGE),
    Checkpoints(home / 'checkpoints') as checkpoints,
  ):
    extra = {'iterator': {'step': on_device.steps}, 'metrics': values}
    checkpoints.save(on_device.steps, state, extra)
  rate = on_device.steps * config.batch_size / seconds
  line = {'row': row, **result(trial, config, values['val/accuracy'], rate, seconds)}
  if config.augment.flip:
    model = train.trained_model(config, str(workdir))
    line['mirrored_accuracy'] = mirrored.accuracy(model, on_device.eval_set)
  print(
    f'{workdir}: {line["accuracy"]:.2%}, mirrored {line.get("mirrored_accuracy")}, {seconds:.0f} s',
    flush=True,
  )
  return line


def main(_):
  for name in ROW.value:
    row = ROWS[name]
    on_device = OnDevice(Trial(row.config, 0, row.changes).load())
    for seed in seeds(FIRST.value, row.seeds if SEEDS.value is None else SEEDS.value):
      trial = Trial(row.config, seed, row.changes)
      make = functools.partial(
        answer, name, trial, on_device, pathlib.Path(WORKDIR.value, name, f'{seed}')
      )
      add_missing(pathlib.Path(RESULTS.value), dataclasses.asdict(trial), make)


if __name__ == '__main__':
  app.run(main)
