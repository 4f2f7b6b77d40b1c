"""Writes ONNX models of safetensors files; runs where jax2onnx is installed: convert.py FOLDER."""

import pathlib
import sys

import scs_jax


def main(folder: pathlib.Path) -> None:
  """Writes `NAME.onnx` beside every `NAME.safetensors`."""
  for path in sorted(folder.glob('*.safetensors')):
    scs_jax.export.to_onnx(scs_jax.load(path), path.with_suffix('.onnx'))
    print(path.stem, flush=True)


if __name__ == '__main__':
  main(pathlib.Path(sys.argv[1]))
