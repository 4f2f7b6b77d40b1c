"""Writes the table of README.md: `python -m experiments.faults.table`."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from experiments.results import newest, read, write_between

HERE = pathlib.Path(__file__).parent
Line = Mapping[str, Any]


def _processes(line: Line) -> str:
  found = {name.partition(',')[0]: 0.0 for name in line if name.startswith('float')}
  for kind in found:
    found[kind] = max(value for name, value in line.items() if name.startswith(kind))
  return '; '.join(f'{kind}: at most {value:.2g}' for kind, value in found.items())


def _kills(line: Line) -> str:
  steps = line['steps at the kills']
  same = 'bit-identical' if line['final state bit-identical'] else 'DIFFERENT'
  return (
    f'{line["kills"]} kills, at {len(set(steps))} different steps from {min(steps)} to '
    f'{max(steps)}. Every restart resumed; the final state is {same}.'
  )


def _signals(line: Line) -> str:
  return f'"{line["said"]}". Both saved this step and resumed.'


def _hosts(line: Line) -> str:
  same = 'bit-identical' if line['final state bit-identical'] else 'DIFFERENT'
  return (
    f'"{line["said while the other hung"]}". The other ended with an error '
    f'{line["seconds until it ended"]} s after the kill. After a restart the final state is {same}.'
  )


def _damage(line: Line) -> str:
  counts = [value for value in line.values() if isinstance(value, Mapping) and 'silent' in value]
  total = {what: sum(each[what] for each in counts) for what in counts[0]}
  return (
    f'{sum(total.values()):,} damages: {total["detected"]:,} detected, {total["harmless"]:,} '
    f'harmless, {total["silent"]} silent.'
  )


def _devices(line: Line) -> str:
  same = [value for value in line.values() if value == 'bit-identical']
  return f'{len(same)} restores, all bit-identical. Training continued.'


def _sharded(line: Line) -> str:
  rest = 1 - line['share of the state in them']
  return (
    f'{line["share of the sharded layers on one device"]:.3f} of the layers that are split, which '
    f'are all but {rest:.1g} of the state.'
  )


def _disks(line: Line) -> str:
  runs = {name: value for name, value in line.items() if isinstance(value, list)}
  ended = [value for value in runs.values() if value[0] == 0]
  kept = sum(1 for value in runs.values() if value[0] and value[1])
  first, *_, last = (name.partition(',')[0] for name in runs)
  return (
    f'{len(runs)} disks from {first} to {last}: {len(ended)} of the runs finished, '
    f'{len(runs) - len(ended)} ended with one line, and {kept} of these keep a good step. '
    'No traceback, no hang.'
  )


def _folders(line: Line) -> str:
  ended = [name for name, value in line.items() if str(value).startswith('exit 1: error: ')]
  return f'{" and ".join(ended)}: one `error:` line and exit code 1.'


def _inputs(line: Line) -> str:
  wrong = len(line['not answered well'])
  return (
    f'{line["inputs"]} inputs, {line["processes"]} of them in a process of its own: {wrong} not '
    f'answered by one line. The slowest process took {line["slowest process, seconds"]:.0f} s.'
  )


# Table -> what is done, and its outcome in words.
WORDS: dict[str, tuple[str, Callable[[Line], str]]] = {
  'kills': ('`kill -9` at random moments, each followed by a restart', _kills),
  'damage': (
    'bytes changed, blocks of zeros, files cut off and deleted: in checkpoints, `config.json`, '
    '`model.json` and `metrics.jsonl`',
    _damage,
  ),
  'full_disks': ('a run on small file systems, with `on_save_error` stop and continue', _disks),
  'folders': ('a read-only folder, and a folder that is deleted during the run', _folders),
  'bad_inputs': (
    'wrong command lines, config files, values, data, layers, environments (`bad_inputs.py`)',
    _inputs,
  ),
  'signals': ('SIGTERM to one of two processes', _signals),
  'hosts': ('one of two processes stops for 15 s, continues, and is then killed', _hosts),
  'processes': (
    'two processes of two devices, and four of one, against one of four: differences of the loss',
    _processes,
  ),
  'devices': ('one run on 8, 4, 2, 1 and 8 devices, data-parallel and fsdp', _devices),
  'sharded_bytes': ("the share of ResNet-18's state on one of eight devices, with fsdp", _sharded),
}


def table(lines: list[dict[str, Any]]) -> str:
  """Returns the newest outcome of every table, and the commit that had it."""
  rows = ['| table | what is done | outcome | commit |', '|---|---|---|---|']
  found = {line['table']: line for line in newest(lines, 'table')}
  for name, (done, outcome) in WORDS.items():
    if line := found.get(name):
      rows.append(f'| `{name}` | {done} | {outcome(line)} | {line["commit"] or "0.1.0"} |')
  return '\n'.join(rows)


if __name__ == '__main__':
  write_between(HERE / 'README.md', 'table', table(read(HERE / 'results.jsonl')))
