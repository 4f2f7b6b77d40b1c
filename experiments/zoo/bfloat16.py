"""Trains every architecture a hundred steps in bfloat16: are loss and gradients finite at each?

python experiments/zoo/bfloat16.py [--network=cct2]

Real CIFAR-10 images, batches of 16, otherwise as the config says. Every step is logged, and the loop
stops at the first that is not finite. Writes bfloat16.json and the table in README.md.
"""

import json
import pathlib
import runpy
import statistics
import sys
import tempfile

from absl import app, flags

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from results import Trial, origin, write_between  # noqa: E402

NETWORKS = runpy.run_path(str(HERE.parent.parent / 'configs' / 'cifar10.py'))['NETWORKS']
NETWORK = flags.DEFINE_multi_enum('network', list(NETWORKS), list(NETWORKS), 'Which.')
STEPS, BATCH = 100, 16


def course(network: str) -> dict:
  """Returns the losses and gradient norms of a run, or why it stopped."""
  from scs_jax import train

  changes = {
    'model.dtype': 'bfloat16',
    'batch_size': BATCH,
    'data.train_split': f'train[:{STEPS * BATCH}]',
    'data.eval_split': 'test[:500]',
    'total_epochs': 1.0,
    'log_every_steps': 1,
  }
  with tempfile.TemporaryDirectory() as folder:
    try:
      train.train_and_evaluate(Trial(f'configs/cifar10.py:{network}', 0, changes).load(), folder)
    except train.NonFiniteError as error:
      return {'error': str(error), **origin()}
    text = pathlib.Path(folder, 'metrics.jsonl').read_text()
    rows = [json.loads(line) for line in text.splitlines()]
  logged = [row for row in rows if 'train/loss' in row]
  values = {key: [row[f'train/{key}'] for row in logged] for key in ('loss', 'gradient_norm')}
  return {'steps': len(logged), **values, **origin()}


def table(results: dict[str, dict]) -> str:
  """Returns a Markdown table."""
  rows = [
    '| network | steps, all finite | loss, first ten steps | last ten | gradient norm, least | most |',
    '|---|---|---|---|---|---|',
  ]
  for network, result in results.items():
    if 'error' in result:
      rows.append(f'| `{network}` | **no**: {result["error"]} | | | | |')
      continue
    loss, norm = result['loss'], result['gradient_norm']
    rows.append(
      f'| `{network}` | {result["steps"]} | {statistics.mean(loss[:10]):.3f} '
      f'| {statistics.mean(loss[-10:]):.3f} | {min(norm):.2g} | {max(norm):.2g} |'
    )
  return '\n'.join(rows)


def main(_):
  path = HERE / 'bfloat16.json'
  results = json.loads(path.read_text()) if path.exists() else {}
  for network in NETWORK.value:
    results[network] = course(network)
    results = {name: results[name] for name in NETWORKS if name in results}
    path.write_text(json.dumps(results) + '\n')
    write_between(HERE / 'README.md', 'bfloat16', table(results))
    print(network, 'done', flush=True)
  print(table(results))


if __name__ == '__main__':
  app.run(main)
