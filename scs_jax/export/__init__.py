"""Trained networks as files that other programs read.

`to_stablehlo` is for JAX without scs_jax, `to_onnx` for the runtimes of ONNX, and `to_safetensors`
for every library that reads arrays. The first two hold the whole computation, for any batch size.
"""

import contextlib
import importlib
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from flax import nnx

from scs_jax import models
from scs_jax.errors import ArgumentError, MissingPackageError, UserError
from scs_jax.export import portable
from scs_jax.models import weights

__all__ = ['FORMATS', 'from_safetensors', 'to_file', 'to_onnx', 'to_safetensors', 'to_stablehlo']

PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')


def to_stablehlo(
  model: nnx.Module, path: str | os.PathLike, input_shape: Sequence[int] | None = None
) -> None:
  """Writes a network as a function of images that JAX runs without scs_jax, on CPU, GPU and TPU.

  The function takes `[batch, *input_shape]` float32, for any batch size.

  Args:
    model: in evaluation mode.
    path: of the file; its folder must exist.
    input_shape: `(*spatial, channels)` of one image. None takes that of the network's data set,
      which a loaded network knows.

  Raises:
    ArgumentError: the model is no network or in training mode, its input shape is unknown or wrong,
      or the file cannot be written.
    MissingPackageError: flatbuffers is not installed.

  Example:
    >>> import scs_jax
    >>> scs_jax.export.to_stablehlo(scs_jax.load('mnist_1382'), '/tmp/mnist.stablehlo')

    A program that has jax and flatbuffers reads it:

    >>> import jax
    >>> content = bytearray(open('/tmp/mnist.stablehlo', 'rb').read())
    >>> network = jax.export.deserialize(content)
    >>> network.call(jax.numpy.zeros((7, 28, 28, 1))).shape
    (7, 10)
  """
  _check(model, path)
  _import('flatbuffers', "run: pip install 'scs-jax[export]'")
  function, images = _traceable(model, input_shape)
  exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(images)
  _write(path, bytes(exported.serialize()))


def to_onnx(
  model: nnx.Module, path: str | os.PathLike, input_shape: Sequence[int] | None = None
) -> None:
  """Writes a network as an ONNX model with the input `images` and the output `outputs`.

  jax2onnx needs an older Orbax than training does, so it has an environment of its own, without
  `[train]`: `pip install 'scs-jax[onnx]'`. A safetensors file takes a network there.

  Args:
    model: as for `to_stablehlo`, with float32 arrays.
    path: as for `to_stablehlo`.
    input_shape: as for `to_stablehlo`.

  Raises:
    ArgumentError: as `to_stablehlo`; or the network computes in another dtype than float32.
    MissingPackageError: jax2onnx is not installed.

  Example:
    >>> import scs_jax
    >>> model = scs_jax.load('mnist_1382')
    >>> scs_jax.export.to_onnx(model, '/tmp/mnist.onnx')  # doctest: +SKIP
  """
  _check(model, path)
  how = "in an environment without the extra [train], run: pip install 'scs-jax[onnx]'"
  jax2onnx = _import('jax2onnx', how)
  function, images = _traceable(model, input_shape)
  rewritten = portable.rewrite(function, images)
  network = jax2onnx.to_onnx(
    rewritten,
    [images],
    model_name=type(model).__name__,
    input_names=['images'],
    output_names=['outputs'],
  )
  _write(path, network.SerializeToString())


def to_safetensors(model: nnx.Module, path: str | os.PathLike) -> None:
  """Writes the arrays of a network by name, such as `scs_0.kernel`.

  `scs_jax.load(path)` builds the network again if a workdir or `scs_jax.models.build` made it.
  `from_safetensors` fills a network of any class.

  Args:
    model: in either mode.
    path: of the file; its folder must exist.

  Raises:
    ArgumentError: the model is no network, safetensors has no such dtype, or the file cannot be
      written.

  Example:
    >>> import scs_jax
    >>> scs_jax.export.to_safetensors(scs_jax.load('mnist_1382'), '/tmp/mnist.safetensors')
    >>> model = scs_jax.load('/tmp/mnist.safetensors')
  """
  _check(model, path, evaluates=False)
  _write(path, weights.to_bytes(model))


def from_safetensors(model: nnx.Module, path: str | os.PathLike) -> None:
  """Gives a network the arrays of a file; the inverse of `to_safetensors`.

  Args:
    model: has the names, shapes and dtypes of the file; is changed in place.
    path: of the file.

  Raises:
    ArgumentError: there is no such file, it is damaged, or its arrays are those of another network.
  """
  _check_network(model)
  weights.fill(model, path)


FORMATS: dict[str, Callable[[nnx.Module, str | os.PathLike], None]] = {
  '.stablehlo': to_stablehlo,
  '.onnx': to_onnx,
  '.safetensors': to_safetensors,
}


def to_file(model: nnx.Module, path: str | os.PathLike) -> None:
  """Writes a network in the format that the suffix of `path` names, one of `FORMATS`.

  Raises:
    ArgumentError: there is no such format; or as the function of the format.
    MissingPackageError: as the function of the format.
  """
  suffix = pathlib.Path(path).suffix
  if suffix not in FORMATS:
    raise ArgumentError(f'the output {os.fspath(path)!r} must end in {", ".join(FORMATS)}')
  FORMATS[suffix](model, path)


def input_shape_of(model: nnx.Module, given: Sequence[int] | None = None) -> tuple[int, ...]:
  """Returns `(*spatial, channels)` of one image, as given or as the network knows it.

  Raises:
    ArgumentError: neither is the case, or what is given is no shape.
  """
  if given is None:
    recipe = models.recipe_of(model)
    if recipe is None:
      raise ArgumentError(
        f'this {type(model).__name__} does not know the size of its images, as networks of '
        'scs_jax.load do: pass input_shape, for example (28, 28, 1)'
      )
    given = recipe['input_shape']
  shape = tuple(given or ())
  if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
    raise ArgumentError(f'input_shape must be (*spatial, channels) of one image, got {given!r}')
  return shape


def _traceable(
  model: nnx.Module, input_shape: Sequence[int] | None
) -> tuple[Callable[[jax.Array], jax.Array], jax.ShapeDtypeStruct]:
  """Returns the network as a function, and images `[batch, *input_shape]` for any batch size.

  Raises:
    ArgumentError: the network does not take images of that shape.
  """
  shape = input_shape_of(model, input_shape)
  batch = jax.export.symbolic_shape('batch')
  images = jax.ShapeDtypeStruct((*batch, *shape), jnp.float32)
  function = lambda images: model(images)
  try:
    jax.eval_shape(function, images)
  except (TypeError, ValueError) as error:
    raise ArgumentError(
      f'this {type(model).__name__} does not take images [batch, {", ".join(map(str, shape))}] '
      f'float32 in batches of any size: {error}'
    ) from error
  return function, images


def _check(model: nnx.Module, path: str | os.PathLike, evaluates: bool = True) -> None:
  """Checks what can be checked before anything is computed."""
  _check_network(model)
  for _, module in nnx.iter_modules(model):
    training = getattr(module, 'deterministic', True) is False or (
      getattr(module, 'use_running_average', True) is False
    )
    if evaluates and training:
      raise ArgumentError(
        f'the model is in training mode, where its {type(module).__name__} depends on the batch or '
        'on chance: call model.eval() first'
      )
  target = pathlib.Path(os.path.expanduser(path))
  if target.is_dir():
    raise ArgumentError(f'{target} is a folder: name a file in it')
  if not target.parent.is_dir():
    raise ArgumentError(f'{target} cannot be written: the folder {target.parent} does not exist')


def _check_network(model: nnx.Module) -> None:
  if not isinstance(model, nnx.Module):
    raise ArgumentError(
      f'model must be a flax.nnx.Module, such as scs_jax.load returns, got {type(model).__name__}'
    )
  if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in weights.named(model).values()):
    raise ArgumentError('model is abstract, as nnx.eval_shape makes it: it has no arrays')


def _import(name: str, remedy: str) -> Any:
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise MissingPackageError(f'{name} cannot be imported ({error}); {remedy}') from error


def _write(path: str | os.PathLike, content: bytes) -> None:
  """Writes a file; other programs see the whole file or none."""
  target = pathlib.Path(os.path.expanduser(path))
  draft = target.with_name(f'{target.name}.draft')
  try:
    draft.write_bytes(content)
    draft.replace(target)
  except OSError as error:
    with contextlib.suppress(OSError):
      draft.unlink()
    raise UserError(f'{target} cannot be written: {error}') from error
