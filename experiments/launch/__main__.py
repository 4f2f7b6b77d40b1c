"""Tries what may happen to a launch, on real parts.

python -m experiments.launch                          every scenario, three times
python -m experiments.launch --only=ssh_is_lost       one of them
python -m experiments.launch --parts=gcloud           with the real gcloud, and a server as its API
python -m experiments.launch --parts=link             without OpenSSH's server

Adds a line for each scenario to results.jsonl and writes the table of the README from it.
"""

import pathlib
import re
import tempfile
import time

from absl import flags

from experiments.flags import run
from experiments.launch.bed import GCLOUD, SSHD, Bed
from experiments.launch.scenarios import SCENARIOS
from experiments.launch.table import HERE, RESULTS, table
from experiments.results import append, newest, read, write_between
from scs_jax.errors import ArgumentError

ONLY = flags.DEFINE_multi_enum('only', [], list(SCENARIOS), 'A scenario; may be repeated.')
REPEAT = flags.DEFINE_integer('repeat', 3, 'How often each scenario is tried.', lower_bound=1)
PARTS = flags.DEFINE_enum(
  'parts',
  'sshd',
  ['link', 'sshd', 'gcloud'],
  "What is real: nothing but run_tpu.sh, OpenSSH's server too, or the server and gcloud.",
)


def attempt(name: str) -> str:
  """Returns the outcome of a scenario in a new bed.

  Raises:
    AssertionError: it is not as it must be.
  """
  with tempfile.TemporaryDirectory(prefix='launch-') as folder:
    gcloud = GCLOUD if PARTS.value == 'gcloud' else None
    bed = Bed(pathlib.Path(folder), sshd=PARTS.value != 'link', gcloud=gcloud)
    try:
      return SCENARIOS[name](bed)
    finally:
      bed.close()


def main(_) -> None:
  if PARTS.value != 'link' and not SSHD:
    raise ArgumentError("OpenSSH's server is not installed: install it, or use --parts=link")
  if PARTS.value == 'gcloud' and not GCLOUD:
    raise ArgumentError('--parts=gcloud: the Google Cloud CLI is not installed')
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
      'seconds': round((time.monotonic() - begun) / REPEAT.value, 1),
    }
    append(RESULTS, {'scenario': name, 'parts': PARTS.value}, values)
    print(
      f'{name}: {values["as_wanted"]} of {REPEAT.value}: {outcome} {failures or ""}', flush=True
    )
  text = table(read(RESULTS))
  write_between(HERE / 'README.md', 'table', text)
  print(text)
  lines = newest(read(RESULTS), 'scenario', 'parts')
  bad = [line['scenario'] for line in lines if line['failures']]
  if bad:
    raise SystemExit(f'not as wanted: {", ".join(bad)}')


if __name__ == '__main__':
  run(main)
