"""Tries what may happen to a launch, on real parts.

python -m experiments.launch                            every scenario, three times
python -m experiments.launch --only=ssh_is_lost         one of them
python -m experiments.launch --nosshd                   without OpenSSH's server, which is used if it is there

Adds a line for each scenario to results.jsonl and writes the table of the README from it. All scenarios
take about 25 minutes on two idle cores.
"""

import pathlib
import re
import tempfile
import time
from collections.abc import Iterable, Mapping
from typing import Any

from absl import flags

from experiments.flags import run
from experiments.launch.bed import SSHD, Bed
from experiments.launch.scenarios import SCENARIOS, description
from experiments.results import append, newest, read, write_between
from scs_jax.errors import ArgumentError

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / 'results.jsonl'
ONLY = flags.DEFINE_multi_enum('only', [], list(SCENARIOS), 'A scenario; may be repeated.')
REPEAT = flags.DEFINE_integer('repeat', 3, 'How often each scenario is tried.', lower_bound=1)
USE_SSHD = flags.DEFINE_bool('sshd', SSHD is not None, "Whether OpenSSH's server is used.")


def attempt(name: str) -> str:
  """Returns the outcome of a scenario in a new bed.

  Raises:
    AssertionError: it is not as it must be.
  """
  with tempfile.TemporaryDirectory(prefix='launch-') as folder:
    bed = Bed(pathlib.Path(folder), sshd=USE_SSHD.value)
    try:
      return SCENARIOS[name](bed)
    finally:
      bed.close()


def table(lines: Iterable[Mapping[str, Any]]) -> str:
  """Returns a Markdown table of the newest line for each scenario."""
  rows = ['| what happens | tried | as wanted | outcome |', '|---|---|---|---|']
  for line in newest(lines, 'scenario'):
    what = description(line['scenario']).replace('|', '\\|')
    rows.append(f'| {what} | {line["tried"]} | {line["as_wanted"]} | {line["outcome"]} |')
  return '\n'.join(rows)


def main(_) -> None:
  if USE_SSHD.value and not SSHD:
    raise ArgumentError("--sshd needs OpenSSH's server: install it, or use --nosshd")
  for name in ONLY.value or SCENARIOS:
    begun, outcome, failures = time.monotonic(), '', []
    for _ in range(REPEAT.value):
      try:
        outcome = attempt(name)
      except AssertionError as error:
        failures.append(re.sub(r'\s+', ' ', str(error))[:2000])
    values = {
      'tried': REPEAT.value,
      'as_wanted': REPEAT.value - len(failures),
      'outcome': outcome or 'FAILED',
      'failures': failures,
      'connection': "OpenSSH's server" if USE_SSHD.value else 'link.py',
      'seconds': round((time.monotonic() - begun) / REPEAT.value, 1),
    }
    append(RESULTS, {'scenario': name}, values)
    print(
      f'{name}: {values["as_wanted"]} of {REPEAT.value}: {outcome} {failures or ""}', flush=True
    )
  text = table(read(RESULTS))
  write_between(HERE / 'README.md', 'table', text)
  print(text)
  bad = [line['scenario'] for line in newest(read(RESULTS), 'scenario') if line['failures']]
  if bad:
    raise SystemExit(f'not as wanted: {", ".join(bad)}')


if __name__ == '__main__':
  run(main)
