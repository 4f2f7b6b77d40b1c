"""The architectures of configs/cifar10.py: parameters, flops, and images a second of training here.

python experiments/zoo/run.py                       writes results.json and the tables of READMEs
python experiments/zoo/run.py --network=resnet20    one of them again
python experiments/zoo/run.py --table               the tables alone, after accuracy.py
"""

import argparse
import json
import pathlib
import runpy
import statistics
import sys
import time

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent), str(HERE.parent / 'speed')]

from results import (  # noqa: E402
  ROOT,
  Trial,
  origin,
  parameters,
  percent,
  read,
  with_key,
  write_between,
)  # fmt: skip

from scs_jax.train import sharding  # noqa: E402

RESULTS = HERE / 'results.json'
BATCH = 64
STEPS = 5


def measure(name: str, variant: str) -> dict:
  """Returns what the table says of one network."""
  import jax
  import jax.numpy as jnp
  from flax import nnx
  from networks import timed_step

  from scs_jax import models
  from scs_jax.train import losses

  config = Trial(f'configs/cifar10.py:{name},variant={variant}', 0).load()
  sizes = config.model.to_dict()
  image = (32, 32, 3)
  build = lambda: models.build(**sizes, input_shape=image, num_classes=10, rngs=nnx.Rngs(0))
  graph, state = nnx.split(nnx.eval_shape(build))
  forward = jax.jit(lambda state, x: nnx.merge(graph, state)(x))
  one = jax.ShapeDtypeStruct((1, *image), jnp.float32)
  flops = forward.lower(state, one).compile().cost_analysis()['flops']
  objective = losses.OBJECTIVES[config.objective]
  step = timed_step(image, sizes, variant, batch=BATCH, objective=objective)
  step().block_until_ready()
  times = []
  for _ in range(STEPS):
    begun = time.perf_counter()
    step().block_until_ready()
    times.append(time.perf_counter() - begun)
  return {
    'parameters': parameters(config),
    'flops': flops,
    'images_per_second': BATCH / statistics.median(times),
  }


def table(results: dict, trained: list[dict]) -> str:
  """Returns the table in Markdown, with the accuracies on the test images of the longest runs there are."""
  rows = [
    '| network | parameters | flops an image | images/s, SCS | images/s, twin | accuracy |',
    '|---|---|---|---|---|---|',
  ]
  for name, row in results.items():
    scs, twin = row['scs'], row['conv']
    lines = [
      line
      for line in trained
      if _network(line['config']) == name
      and line['evaluated_on'] == 'cifar10 test'
      and not any(key.startswith('model.') for key in line['changes'])
    ]
    longest = max((line['epochs'] for line in lines), default=0)
    lines = [line for line in lines if line['epochs'] == longest]
    # The average is for the config's own length, and of little use after less.
    shown = [line.get('last_parameters', line) if line['changes'] else line for line in lines]
    epochs = f'{longest:g} epochs' + ('' if shown == lines else ', not averaged')
    accuracy = f'{_accuracy(shown)} ({epochs})' if shown else 'not measured'
    rows.append(
      f'| `{name}` | {scs["parameters"]:,} | {scs["flops"] / 1e6:.0f} M '
      f'| {scs["images_per_second"]:.0f} | {twin["images_per_second"]:.0f} | {accuracy} |'
    )
  return '\n'.join(rows)


def _network(config: str) -> str:
  """Returns the name in a config such as 'configs/cifar10.py:resnet20'; without one it is the first."""
  return config.removeprefix('configs/cifar10.py').removeprefix(':') or 'three_layers'


def table_of_runs(trained: list[dict]) -> str:
  """Returns the table in Markdown of all that accuracy.py has trained."""
  rows = [
    '| network | changed in its config | parameters | epochs | seeds | accuracy, average '
    '| accuracy, last | loss, last | evaluated on | hours |',
    '|---|---|---|---|---|---|---|---|---|---|',
  ]
  groups = {}
  for line in trained:
    groups.setdefault((line['config'], json.dumps(line['changes'])), []).append(line)
  for (config, _), lines in groups.items():
    first = lines[0]
    changes = ', '.join(f'`{key}={value}`' for key, value in first['changes'].items())
    last = [line['last_parameters'] for line in lines if 'last_parameters' in line]
    loss = f'{statistics.mean(line["loss"] for line in last):.3f}' if last else ''
    hours = statistics.mean(line['training_seconds'] for line in lines) / 3600
    rows.append(
      f'| `{config.partition(":")[2]}` | {changes} | {first["parameters"]:,} | {first["epochs"]:g} '
      f'| {len(lines)} | {_accuracy(lines)} | {_accuracy(last)} | {loss} '
      f'| {first["evaluated_on"]} | {hours:.1f} |'
    )
  return '\n'.join(rows)


def _accuracy(lines: list[dict]) -> str:
  return percent(line['accuracy'] for line in lines) if lines else ''


def main() -> None:
  names = runpy.run_path(str(ROOT / 'configs' / 'cifar10.py'))['NETWORKS']
  parser = argparse.ArgumentParser()
  parser.add_argument('--table', action='store_true')
  parser.add_argument('--network', action='append', choices=names)
  arguments = parser.parse_args()
  results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
  if not arguments.table:
    sharding.use_cpu_cores(BATCH)
    for name in arguments.network or names:
      row = {variant: measure(name, variant) for variant in ('scs', 'conv')}
      print(name, row, flush=True)
      results[name] = {**row, 'batch': BATCH, **origin()}
      results = {name: results[name] for name in names if name in results}
      RESULTS.write_text(json.dumps(results, indent=1) + '\n')
  trained = read(HERE / 'accuracy.jsonl')
  elsewhere = [
    line
    for line in read(ROOT / 'experiments' / 'reproduce' / 'results.jsonl')
    if not with_key(trained, {key: line[key] for key in ('config', 'seed', 'changes')})
  ]
  write_between(ROOT / 'README.md', 'zoo', table(results, trained + elsewhere))
  write_between(HERE / 'README.md', 'runs', table_of_runs(trained))


if __name__ == '__main__':
  main()
