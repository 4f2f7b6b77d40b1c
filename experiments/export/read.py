"""Runs exported networks where scs_jax is not installed: read.py FOLDER.

Prints a line of JSON for each network: the largest difference of its outputs from those in
`NAME.npz`, for each format.
"""

# These packages are installed in an environment of this script's own.
# pyright: reportMissingImports=false

import importlib.util
import json
import pathlib
import sys
from collections.abc import Callable

import jax
import jax.export
import numpy as np
import onnxruntime

Network = Callable[[np.ndarray], np.ndarray]


def of_stablehlo(path: pathlib.Path) -> Network:
  """Returns the network in a file of `scs_jax.export.to_stablehlo`."""
  exported = jax.export.deserialize(bytearray(path.read_bytes()))
  return lambda images: np.asarray(exported.call(images))


def of_onnx(path: pathlib.Path) -> Network:
  """Returns the network in a file of `scs_jax.export.to_onnx`."""
  options = onnxruntime.SessionOptions()
  options.log_severity_level = 3
  session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
  return lambda images: np.asarray(session.run(['outputs'], {'images': images})[0])


def difference(network: Network, images: np.ndarray, outputs: np.ndarray) -> float:
  """Returns the largest difference over batches of one image, of three and of all."""
  sizes = (1, 3, len(images))
  return max(float(np.abs(network(images[:n]) - outputs[:n]).max()) for n in sizes)


def main(folder: pathlib.Path) -> None:
  """Compares every network in the folder."""
  assert importlib.util.find_spec('scs_jax') is None
  for path in sorted(folder.glob('*.npz')):
    arrays = np.load(path)
    images, outputs = arrays['images'], arrays['outputs']
    files = {kind: path.with_suffix(f'.{kind}') for kind in ('stablehlo', 'onnx')}
    line = {
      'network': path.stem,
      'largest_output': float(np.abs(outputs).max()),
      'stablehlo': difference(of_stablehlo(files['stablehlo']), images, outputs),
      'onnx': difference(of_onnx(files['onnx']), images, outputs),
      'bytes': {kind: file.stat().st_size for kind, file in files.items()},
    }
    print(json.dumps(line), flush=True)


if __name__ == '__main__':
  main(pathlib.Path(sys.argv[1]))
