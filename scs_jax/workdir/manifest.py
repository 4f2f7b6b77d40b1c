"""Manifests: what a checkpoint holds, and the SHA-256 of each of its files.

`manifest.json` holds the step, the path, dtype and shape of every array, the metrics that rank
steps, the hash of the run's config, the size and SHA-256 of every other file, and a SHA-256 of its
own text.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath

from scs_jax.errors import ArgumentError

MANIFEST = 'manifest.json'
_CHUNK_BYTES = 1 << 20
_ENTRIES = {'step', 'state', 'metrics', 'files'}


class DamagedError(Exception):
  """A step disagrees with its manifest. The message gives the first disagreement."""


def verify(path: epath.Path) -> dict[str, Any]:
  """Returns the manifest of the step in `path`.

  Raises:
    DamagedError: a file disagrees with the manifest, or there is no intact manifest.
  """
  if not (path / MANIFEST).exists():
    raise DamagedError(f'it has no {MANIFEST}: it was never verified')
  if not is_file(path / MANIFEST):
    raise DamagedError(f'{MANIFEST} is not a file')
  try:
    manifest = decode((path / MANIFEST).read_bytes())
    if not isinstance(manifest, dict) or not manifest.keys() >= _ENTRIES:
      raise DamagedError(f'its {MANIFEST} lacks an entry')
    if str(manifest['step']) != path.name:
      raise DamagedError(f'its manifest is that of step {manifest["step"]}')
    expected, found = manifest['files'], fingerprints(path)
  except OSError as error:
    raise DamagedError(f'it cannot be read: {error}') from error
  for name in sorted(expected | found):
    if name not in found:
      raise DamagedError(f'{name} is missing')
    if name not in expected:
      raise DamagedError(f'{name} does not belong to it')
    if found[name] != expected[name]:
      raise DamagedError(
        f'{name} has changed: {found[name]["bytes"]} bytes with SHA-256 {found[name]["sha256"]}, '
        f'saved as {expected[name]["bytes"]} bytes with {expected[name]["sha256"]}'
      )
  return manifest


def fingerprints(path: epath.Path) -> dict[str, dict[str, Any]]:
  """Maps the relative path of every file below `path`, but the manifest, to size and SHA-256."""
  return {name: _fingerprint(path / name) for name in _file_names(path) if name != MANIFEST}


def encode(manifest: dict[str, Any]) -> bytes:
  """Returns the text of a manifest: JSON of its content and of the content's SHA-256."""
  digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
  return json.dumps({'manifest': manifest, 'sha256': digest}, indent=1, sort_keys=True).encode()


def decode(data: bytes) -> dict[str, Any]:
  """Returns the content of a manifest; the inverse of `encode`.

  Raises:
    DamagedError: any byte was changed, white space included.
  """
  try:
    manifest = json.loads(data)['manifest']
    intact = encode(manifest) == data
  except (ValueError, LookupError, TypeError, RecursionError):
    manifest, intact = {}, False
  if not intact:
    raise DamagedError(f'its {MANIFEST} is damaged')
  return manifest


def describe_arrays(tree: Any) -> dict[str, str]:
  """Maps the path of each leaf to its dtype and shape, as in `{'dense/kernel': 'float32[3,8]'}`.

  Raises:
    TypeError: a leaf is not a jax.Array.
  """
  described = {}
  for path, leaf in _leaves(tree):
    if not isinstance(leaf, jax.Array):
      raise TypeError(f'state: {path!r} must be a jax.Array, got {type(leaf).__name__}: {leaf}')
    described[path] = _describe(leaf)
  return described


def describe_shapes(tree: Any) -> dict[str, str]:
  """Does what `describe_arrays` does, for jax.ShapeDtypeStruct with a sharding.

  Raises:
    ArgumentError: a leaf has no sharding.
  """
  described = {}
  for path, leaf in _leaves(tree):
    if getattr(leaf, 'sharding', None) is None:
      raise ArgumentError(
        f'abstract state: {path!r} needs a shape, a dtype and a sharding, got {leaf}'
      )
    described[path] = _describe(leaf)
  return described


def difference(saved: dict[str, str], wanted: dict[str, str]) -> str:
  """Describes how two results of `describe_arrays` differ; '' if they do not.

  They must agree in paths, shapes and dtypes: Orbax would silently cast to another dtype.
  """
  paths = [path for path in sorted(saved | wanted) if saved.get(path) != wanted.get(path)]
  if not paths:
    return ''
  return (
    f'{paths[0]!r} is {saved.get(paths[0], "absent")} in the checkpoint and '
    f'{wanted.get(paths[0], "absent")} in the model; {len(paths) - 1} more differ'
  )


def ranked(manifests: dict[int, dict[str, Any]], metric: str) -> list[int]:
  """Returns the steps where `metric` is finite, the highest first, the newest of equals first."""

  def value(step: int) -> float:
    number = manifests[step]['metrics'].get(metric)
    return number if isinstance(number, int | float) else math.nan

  finite = [step for step in manifests if math.isfinite(value(step))]
  return sorted(finite, key=lambda step: (value(step), step), reverse=True)


def describe(tree: Any) -> dict[str, str]:
  """Maps the path of each array or shape to its dtype and shape, without any check."""
  return {path: _describe(leaf) for path, leaf in _leaves(tree)}


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
  for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
    yield jax.tree_util.keystr(keys, simple=True, separator='/'), leaf


def _describe(leaf: Any) -> str:
  return f'{leaf.dtype}[{",".join(map(str, leaf.shape))}]'


def _file_names(path: epath.Path, prefix: str = '') -> Iterator[str]:
  for child in path.iterdir():
    if child.is_dir():
      yield from _file_names(child, f'{prefix}{child.name}/')
    elif is_file(child):
      yield prefix + child.name
    else:
      raise DamagedError(f'{prefix}{child.name} is not a file')


def is_file(path: epath.Path) -> bool:
  """Whether it can be read to an end, unlike a pipe. Objects of a bucket have no kind."""
  return '://' in str(path) or os.path.isfile(path)


def _fingerprint(path: epath.Path) -> dict[str, Any]:
  digest, size = hashlib.sha256(), 0
  with path.open('rb') as file:
    for chunk in iter(lambda: file.read(_CHUNK_BYTES), b''):
      digest.update(chunk)
      size += len(chunk)
  return {'bytes': size, 'sha256': digest.hexdigest()}
