"""Writes the three tables of README.md: `python -m experiments.zoo.table`."""

import json
import pathlib
import runpy
import statistics

from experiments.results import ROOT, newest, percent, read, with_key, write_between

HERE = pathlib.Path(__file__).parent
NETWORKS = list(runpy.run_path(str(ROOT / 'configs' / 'cifar10.py'))['NETWORKS'])


def architectures(measured: list[dict], trained: list[dict]) -> str:
  """Returns the table of all networks.

  Args:
    measured: lines of `results.jsonl`.
    trained: lines of trained networks. The accuracy shown is that of the longest runs on the test
      images.
  """
  rows = [
    '| network | parameters | flops an image | images/s, SCS | images/s, twin | accuracy |',
    '|---|---|---|---|---|---|',
  ]
  for name in NETWORKS:
    pair = {
      line['variant']: line
      for line in newest(measured, 'network', 'variant')
      if line['network'] == name
    }
    if pair:
      scs, twin = pair['scs'], pair['conv']
      rows.append(
        f'| `{name}` | {scs["parameters"]:,} | {scs["flops"] / 1e6:.0f} M '
        f'| {scs["images_per_second"]:.0f} | {twin["images_per_second"]:.0f} '
        f'| {_longest(name, trained)} |'
      )
  return '\n'.join(rows)


def _longest(name: str, trained: list[dict]) -> str:
  """Returns the accuracy of the longest runs of a network on the test images."""
  lines = [
    line
    for line in trained
    if _network(line['config']) == name
    and line['evaluated_on'] == 'cifar10 test'
    and not any(key.startswith('model.') for key in line['changes'])
  ]
  longest = max((line['epochs'] for line in lines), default=0)
  lines = [line for line in lines if line['epochs'] == longest]
  # The average fits the config's own length; after fewer steps the last parameters are better.
  shown = [line.get('last_parameters', line) if line['changes'] else line for line in lines]
  if not shown:
    return 'not measured'
  averaged = '' if shown == lines else ', not averaged'
  return f'{_accuracy(shown)} ({longest:g} epochs{averaged})'


def _network(config: str) -> str:
  """Returns the network of 'configs/cifar10.py:resnet20'; without an argument it is the first."""
  return config.removeprefix('configs/cifar10.py').removeprefix(':') or 'three_layers'


def runs(trained: list[dict]) -> str:
  """Returns the table of everything that accuracy.py has trained."""
  rows = [
    '| network | changed in its config | parameters | epochs | seeds | accuracy, average '
    '| accuracy, last | loss, last | evaluated on | hours |',
    '|---|---|---|---|---|---|---|---|---|---|',
  ]
  groups: dict[tuple[str, str], list[dict]] = {}
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


def bfloat16(results: list[dict]) -> str:
  """Returns the table of the runs in bfloat16."""
  rows = [
    '| network | steps, all finite | loss, first ten steps | last ten '
    '| gradient norm, least | most |',
    '|---|---|---|---|---|---|',
  ]
  for line in newest(results, 'network'):
    network = line['network']
    if 'error' in line:
      rows.append(f'| `{network}` | **no**: {line["error"]} | | | | |')
      continue
    loss, norm = line['loss'], line['gradient_norm']
    rows.append(
      f'| `{network}` | {line["steps"]} | {statistics.mean(loss[:10]):.3f} '
      f'| {statistics.mean(loss[-10:]):.3f} | {min(norm):.2g} | {max(norm):.2g} |'
    )
  return '\n'.join(rows)


if __name__ == '__main__':
  trained = read(HERE / 'accuracy.jsonl')
  elsewhere = [
    line
    for line in read(ROOT / 'experiments' / 'reproduce' / 'results.jsonl')
    if not with_key(trained, {key: line[key] for key in ('config', 'seed', 'changes')})
  ]
  measured = read(HERE / 'results.jsonl')
  write_between(HERE / 'README.md', 'zoo', architectures(measured, trained + elsewhere))
  write_between(HERE / 'README.md', 'runs', runs(trained))
  write_between(HERE / 'README.md', 'bfloat16', bfloat16(read(HERE / 'bfloat16.jsonl')))
