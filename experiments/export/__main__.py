"""Exports networks here, and runs them where scs_jax is not installed.

python -m experiments.export --workdir=DIR

Makes two virtual environments in DIR: one with jax2onnx, which cannot share one with training, and
one with JAX and onnxruntime, but without scs_jax. Adds a line for each network.
"""

import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import flags as absl_flags
from flax import nnx

import scs_jax
from experiments import flags
from experiments.results import ROOT, append, newest, read, results_file, write_between
from scs_jax import models, pretrained

WORKDIR = flags.workdir()
RESULTS = flags.results()
TABLE = absl_flags.DEFINE_boolean('table', False, 'Only writes the table of README.md.')

IMAGES = 8
HERE = pathlib.Path(__file__).parent
CIFAR = (32, 32, 3)
STACK = (
  {'kind': 'scs', 'features': 8, 'window': 5},
  {'kind': 'abs'},
  {'kind': 'pool'},
  {'kind': 'depthwise', 'padding': 'VALID'},
  {'kind': 'pointwise', 'features': 12},
  {'kind': 'pool', 'window': 4},
  {'kind': 'head'},
)
# Every architecture, small: its name among `models.MODELS` and its arguments.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
  'scs_net': ('scs_net', {'stack': STACK, 'q_init': 0.1, 'scale_init': 10.0}),
  'centred': ('scs_net', {'stack': STACK, 'center': True}),
  'resnet': ('resnet', {'widths': (8, 16), 'blocks': (1, 2)}),
  'resnet_pools': ('resnet', {'widths': (8, 16), 'blocks': (1, 1), 'downsample': 'pool'}),
  'resnet_flat': ('resnet', {'widths': (8,), 'blocks': (1,), 'head': 'flat'}),
  'bottlenecks': ('resnet', {'widths': (4, 8), 'blocks': (1, 1), 'block': 'bottleneck'}),
  'large_stem': ('resnet', {'widths': (8,), 'blocks': (1,), 'large_stem': True}),
  'hukkelas': ('hukkelas', {'width': 4, 'levels': 2}),
  'convmixer': ('convmixer', {'width': 8, 'depth': 2}),
  'densenet': ('densenet', {'layers': (2, 2), 'growth': 4}),
  'cct': ('cct', {'width': 16, 'depth': 1, 'tokeniser': (8,)}),
  'autoencoder': ('autoencoder', {'widths': (8,), 'code': 4}),
}


def networks() -> Iterator[tuple[str, nnx.Module, tuple[int, ...]]]:
  """Yields names, networks in evaluation mode, and shapes of their images."""
  for name in pretrained.names():
    yield name, scs_jax.load(name), tuple(pretrained.card(name)['input']['shape'])
  for name, (kind, arguments) in NETWORKS.items():
    for variant in models.parts.VARIANTS:
      sizes = {'input_shape': CIFAR, 'num_classes': 10}
      model = models.build(kind, **arguments, variant=variant, **sizes, rngs=nnx.Rngs(0))
      model.eval()
      yield f'{name}_{variant}', model, CIFAR


def environment(path: pathlib.Path, *packages: str) -> pathlib.Path:
  """Makes a virtual environment, and returns its Python."""
  python = path / 'bin' / 'python'
  if not python.exists():
    subprocess.run([sys.executable, '-m', 'venv', path], check=True)
  subprocess.run([python, '-m', 'pip', 'install', '--quiet', *packages], check=True)
  return python


def write_table(results: pathlib.Path) -> None:
  """Writes the table of README.md."""
  rows = [
    '| network | largest output | StableHLO | ONNX | kB StableHLO, ONNX |',
    '|---|---|---|---|---|',
  ]
  for line in newest(read(results), 'network'):
    sizes = ', '.join(f'{size / 1000:.0f}' for size in line['bytes'].values())
    rows.append(
      f'| `{line["network"]}` | {line["largest_output"]:.2f} | {line["stablehlo"]:.1e} '
      f'| {line["onnx"]:.1e} | {sizes} |'
    )
  write_between(HERE / 'README.md', 'export', '\n'.join(rows))


def main(_: list[str]) -> None:
  """Exports all networks, runs them elsewhere, and adds a line for each."""
  results = results_file(RESULTS.value, WORKDIR.value)
  if TABLE.value:
    return write_table(results)
  folder = pathlib.Path(WORKDIR.value)
  files = folder / 'files'
  files.mkdir(parents=True, exist_ok=True)
  converter = environment(folder / 'converter', f'{ROOT}[onnx]')
  reader = environment(folder / 'reader', 'jax', 'flatbuffers', 'onnxruntime')
  for name, model, shape in networks():
    images = np.random.default_rng(0).random((IMAGES, *shape), np.float32)
    outputs = jax.jit(lambda images, model=model: model(images))(images)
    np.savez(files / f'{name}.npz', images=images, outputs=np.asarray(outputs))
    scs_jax.export.to_stablehlo(model, files / f'{name}.stablehlo')
    scs_jax.export.to_safetensors(model, files / f'{name}.safetensors')
  subprocess.run([converter, '-I', HERE / 'convert.py', files], check=True)
  lines = subprocess.run(
    [reader, '-I', HERE / 'read.py', files], stdout=subprocess.PIPE, check=True
  )
  versions = json.loads(_versions(converter)) | json.loads(_versions(reader))
  for text in lines.stdout.decode().splitlines():
    line = json.loads(text)
    append(results, {'network': line.pop('network')}, {**line, 'elsewhere': versions})


def _versions(python: pathlib.Path) -> str:
  """Returns JSON of the versions of the packages of an environment that matter here."""
  code = """
import importlib.metadata, json
names = ('jax2onnx', 'onnxruntime', 'jax', 'flatbuffers')
found = {d.metadata['Name']: d.version for d in importlib.metadata.distributions()}
print(json.dumps({name: found[name] for name in names if name in found}))
"""
  return subprocess.run(
    [python, '-I', '-c', code], stdout=subprocess.PIPE, check=True, text=True
  ).stdout


if __name__ == '__main__':
  flags.run(main)
