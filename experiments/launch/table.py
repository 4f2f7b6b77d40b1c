"""The table of the README."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.launch.scenarios import SCENARIOS, description
from experiments.results import newest

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / 'results.jsonl'


def table(lines: Iterable[Mapping[str, Any]]) -> str:
  """Returns a Markdown table of the scenarios that were tried, from the newest line of each."""
  found = {(line['scenario'], line['parts']): line for line in newest(lines, 'scenario', 'parts')}
  rows = ['| what happens | as wanted | with the real gcloud | outcome |', '|---|---|---|---|']
  for name in SCENARIOS:
    shown = [found.get((name, parts)) for parts in ('sshd', 'gcloud')]
    if not any(shown):
      continue
    counts = [f'{line["as_wanted"]} of {line["tried"]}' if line else '' for line in shown]
    outcome = next((line['outcome'] for line in shown if line), '')
    rows.append(f'| {" | ".join([description(name), *counts, outcome])} |')
  return '\n'.join(rows)
