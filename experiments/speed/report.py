"""Writes the tables of the README and the picture from results.jsonl, without measuring.

python -m experiments.speed.report
"""

import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.results import newest, read, write_between
from experiments.speed.layers import (
  BLOCK,
  BY_CONVOLUTION,
  CONVOLUTION,
  ONES_KERNEL,
  SCS,
  TORCH_BLOCK,
  TORCH_SCS,
)

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / 'results.jsonl'
DEPTHWISE = 'depthwise 14x14 64'

Line = Mapping[str, Any]


def of_table(lines: Iterable[Line], table: str, *names: str) -> list[dict[str, Any]]:
  """Returns the newest line of one table for each value of the keys `names`."""
  return newest((line for line in lines if line['table'] == table), *names)


def layers(lines: Iterable[Line]) -> str:
  """Returns the milliseconds of value and all gradients, and what they amount to."""
  lines = of_table(lines, 'layers', 'layer')
  columns = (CONVOLUTION, BLOCK, SCS, ONES_KERNEL, TORCH_BLOCK, TORCH_SCS)
  head = ('convolution', 'block', 'SCS', 'SCS by ones-kernel', 'block, torch', 'SCS, torch')
  rows = []
  for line in lines:
    seconds = line['value and gradients']
    times = [_milliseconds(seconds.get(name)) for name in columns]
    name = f'{_layer(line["layer"])} ({line["batch"]})'
    rows.append([name, *times, f'{seconds[SCS] / seconds[BLOCK]:.2f}'])
  dense = [line['value and gradients'] for line in lines if line['groups'] == 1]
  figures = [f'- SCS / block with groups = 1: {_spread([row[SCS] / row[BLOCK] for row in dense])}.']
  for line in lines:
    if line['layer'] == DEPTHWISE:
      seconds = line['value and gradients']
      figures.append(
        f'- Depthwise SCS: {seconds[SCS] / seconds[BY_CONVOLUTION]:.2f} of our own '
        f"`method='convolution'`, {seconds[SCS] / seconds[ONES_KERNEL]:.2f} of the ones-kernel "
        'formulation.'
      )
  return '\n'.join(
    [_origin(lines), '', *_table(['layer (batch)', *head, 'SCS / block'], rows), '', *figures]
  )


def pool(lines: Iterable[Line]) -> str:
  """Returns the milliseconds of 2×2 pooling with its gradient."""
  lines = of_table(lines, 'pool', 'layer')
  rows = []
  for line in lines:
    ours, theirs = line['seconds']['abs_max_pool'], line['seconds']['max_pool']
    rows.append(
      [_layer(line['layer']), *map(_milliseconds, (ours, theirs)), f'{ours / theirs:.2f}']
    )
  head = ['size, features', 'absolute max pooling', "Flax's `max_pool`", 'ratio']
  return '\n'.join([_origin(lines), '', *_table(head, rows)])


def steps(lines: Iterable[Line]) -> str:
  """Returns the milliseconds of whole training steps."""
  lines = of_table(lines, 'steps', 'network')
  rows = []
  for line in lines:
    seconds = line['seconds']
    peer = seconds.get(TORCH_SCS)
    rows.append(
      [
        line['network'],
        *(_milliseconds(seconds[name]) for name in ('scs', 'conv', 'convolutions alone')),
        f'{seconds["scs"] / seconds["conv"]:.2f}',
        *(_milliseconds(seconds.get(name)) for name in (TORCH_SCS, 'torch: conv')),
        f'{seconds["scs"] / peer:.2f}' if peer else '',
      ]
    )
  head = [
    'network',
    'SCS',
    'twin',
    'its convolutions alone',
    'SCS / twin',
    'SCS, torch',
    'twin, torch',
    'SCS / SCS in torch',
  ]
  return '\n'.join([_origin(lines), '', *_table(head, rows)])


def loop(lines: Iterable[Line]) -> str:
  """Returns a sentence on the training loop beside its bare step."""
  (line,) = of_table(lines, 'loop')
  seconds = {name: f'{1e3 * value:.1f}' for name, value in line['seconds'].items()}
  return (
    f'A step takes {seconds["loop"]} ms in the loop and {seconds["bare step"]} ms alone: '
    f'**{line["ratio"]:.2f}** ({_origin([line])}).'
  )


def start(lines: Iterable[Line]) -> str:
  """Returns a sentence on the seconds from the command to the first step."""
  (line,) = of_table(lines, 'start')
  first, second = (line['seconds'][name] for name in ('first', 'second'))
  return (
    f'The first step comes {first:.1f} s after the command, and {second:.1f} s after it with a '
    f'warm cache ({_origin([line])}).'
  )


def pages(lines: Iterable[Line]) -> str:
  """Returns the milliseconds of a step without and with huge pages."""
  lines = of_table(lines, 'pages', 'config')
  rows = []
  for line in lines:
    ordinary, huge = line['milliseconds'].values()
    name = line['config'].removeprefix('configs/')
    rows.append([f'`{name}`', f'{ordinary:.1f}', f'{huge:.1f}', f'{ordinary / huge:.2f}'])
  head = ['config', 'milliseconds a step', 'with huge pages', 'gain']
  return '\n'.join([_origin(lines), '', *_table(head, rows)])


def tpu(lines: Iterable[Line]) -> str:
  """Returns the megabytes that the TPU compiler counts for chains of layers, and for a step."""
  lines = list(lines)
  chains = of_table(lines, 'tpu layers', 'layer', 'formulation', 'dtype')
  costs = {(line['layer'], line['dtype'], line['formulation']): line for line in chains}
  names = list(dict.fromkeys(line['layer'] for line in chains))
  by_type = {}
  for dtype in ('bfloat16', 'float32'):
    ratio = lambda name, what, d=dtype: costs[name, d, SCS][what] / costs[name, d, BLOCK][what]
    by_type[dtype] = {name: ratio(name, 'bytes accessed') for name in names}
  rows = []
  for name in names:
    row = {form: costs[name, 'bfloat16', form] for form in (CONVOLUTION, BLOCK, SCS, ONES_KERNEL)}
    megabytes = [f'{line["bytes accessed"] / 1e6:.0f}' for line in row.values()]
    flops = row[SCS]['flops'] / row[BLOCK]['flops']
    ratios = (by_type['bfloat16'][name], flops, by_type['float32'][name])
    rows.append([_layer(name), *megabytes, *(f'{ratio:.2f}' for ratio in ratios)])
  dense = [name for name in names if name != DEPTHWISE]
  figures = [
    f'- SCS / block with groups = 1, {dtype}: {_spread([ratios[name] for name in dense])}.'
    for dtype, ratios in by_type.items()
  ]
  steps = of_table(lines, 'tpu steps', 'network', 'variant', 'dtype')
  for dtype in ('bfloat16', 'float32'):
    pair = {line['variant']: line for line in steps if line['dtype'] == dtype}
    moved, flops = (pair['scs'][what] / pair['conv'][what] for what in ('bytes accessed', 'flops'))
    figures.append(
      f"- A step of {pair['scs']['network']}, {dtype}: {moved:.2f} of its twin's bytes and "
      f'{flops:.2f} of its flops.'
    )
  head = [
    'layer',
    'convolution',
    'block',
    'SCS',
    'SCS by ones-kernel',
    'SCS / block',
    'flops',
    'in float32',
  ]
  return '\n'.join([_origin(chains + steps), '', *_table(head, rows), '', *figures])


TEXTS: dict[str, Callable[[Iterable[Line]], str]] = {
  text.__name__: text for text in (layers, pool, steps, loop, start, pages, tpu)
}


def write(table: str) -> str:
  """Writes one table of the README, and the picture of the layers; returns the table."""
  lines = read(RESULTS)
  text = TEXTS[table](lines)
  write_between(HERE / 'README.md', table, text)
  if table == 'layers':
    draw(of_table(lines, 'layers', 'layer'), HERE / 'layers.png')
  return text


def draw(lines: Sequence[Line], path: pathlib.Path) -> None:
  """Draws every layer as a multiple of the block that it replaces."""
  import matplotlib  # late, because it takes a second

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  shown = {SCS: '#2166ac', ONES_KERNEL: '#b2182b'}
  figure, axes = plt.subplots(figsize=(8, 5), layout='constrained')
  rows = [line['value and gradients'] for line in lines]
  for i, (name, color) in enumerate(shown.items()):
    positions = [y + 0.38 * i for y in range(len(rows))]
    axes.barh(positions, [r[name] / r[BLOCK] for r in rows], 0.38, color=color, label=name)
  axes.axvline(1, color='black', linewidth=1)
  axes.set_yticks([y + 0.19 for y in range(len(rows))], [line['layer'] for line in lines])
  axes.invert_yaxis()
  axes.set_xlabel(f'time of value and all gradients, as a multiple of {BLOCK}')
  axes.legend(frameon=False)
  figure.savefig(path, dpi=120)
  plt.close(figure)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
  line = lambda cells: '| ' + ' | '.join(cells) + ' |'
  return [line(head), '|' + '---|' * len(head), *map(line, rows)]


def _milliseconds(seconds: float | None) -> str:
  """Returns three digits or so: '38.0', '121'; nothing for what was not measured."""
  if seconds is None:
    return ''
  return f'{1e3 * seconds:.1f}' if seconds < 0.0995 else f'{1e3 * seconds:.0f}'


def _layer(name: str) -> str:
  return re.sub(r'(?<=\d)x(?=\d)', '×', name)


def _spread(ratios: Sequence[float]) -> str:
  """Returns the geometric mean with the smallest and the largest ratio."""
  mean = np.exp(np.mean(np.log(ratios)))
  return f'**geometric mean {mean:.2f}**, {min(ratios):.2f} to {max(ratios):.2f}'


def _origin(lines: Iterable[Line]) -> str:
  """Returns the versions and the machines that lines were measured with."""
  names = {
    f'jax {line["versions"]["jax"]}, Python {line["versions"]["python"]}, {line["machine"]}'
    for line in lines
  }
  return '; '.join(sorted(names))


if __name__ == '__main__':
  for each in TEXTS:
    write(each)
