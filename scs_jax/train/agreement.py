"""Whether all processes of a run do the same. Those that differ would train apart in silence."""

import collections
import hashlib
import importlib.metadata
import os
import pathlib
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from scs_jax import __version__, data
from scs_jax.errors import ArgumentError, UserError
from scs_jax.train import config as configuration
from scs_jax.train.experiment import Experiment
from scs_jax.train.steps import State
from scs_jax.workdir import folder, processes

PACKAGE = pathlib.Path(__file__).parent.parent

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'orbax-checkpoint')
SETTINGS = (
  'jax_enable_x64',
  'jax_default_matmul_precision',
  'jax_default_prng_impl',
  'jax_threefry_partitionable',
  'jax_numpy_dtype_promotion',
  'jax_random_seed_offset',
  'jax_disable_jit',
  'jax_debug_nans',
  'jax_debug_infs',
)
VARIABLES = ('XLA_FLAGS', 'LIBTPU_INIT_ARGS')  # what a compiler is told
# Keys in which hosts may differ: where the data is, and how it is read.
LOCAL = ('data.data_dir', 'data.workers')
_SAMPLE = 16  # images that stand for a data set
_LONGEST = 100  # characters of a value in a message
_SHOWN = 3  # differences in a message

Fingerprint = dict[str, str]


class DivergedError(UserError, RuntimeError):
  """Arrays that every device should hold alike are not alike."""


# ------------------------------------------------------------------------------------ The start


def check_hosts(experiment: Experiment, workdir: Any, mode: str) -> None:
  """Compares all processes with process 0 before the first step; a collective.

  Args:
    experiment: what this process is going to do.
    workdir: where.
    mode: 'train' or 'eval'.

  Raises:
    ArgumentError: a process differs, or one of the others cannot start. Whatever stops this process
      is raised as it is.
  """
  if jax.process_count() == 1:
    return
  failure, found = None, {}
  try:
    experiment.check_shapes()  # a model of the user may fail on one host alone
    found = fingerprint(experiment, workdir, mode)
  except Exception as error:  # the others must hear of it: they would wait for this process
    failure, found = error, {'failure': f'{type(error).__name__}: {error}'}
  all_found = processes.gather({'host': socket.gethostname(), **found})
  if failure is not None:
    raise failure
  if words := differences(all_found):
    raise ArgumentError(words)


def differences(found: Sequence[Fingerprint]) -> str:
  """Describes how processes differ from process 0; '' if they do not.

  Args:
    found: what `fingerprint` returned on each process, with the name of its `host`; or 'failure',
      why it cannot start.
  """
  names = [f'process {i} on {each["host"]}' for i, each in enumerate(found)]
  words = [
    f'{names[i]} cannot start ({each["failure"]})'
    for i, each in enumerate(found)
    if 'failure' in each
  ]
  if words:
    return f'{"; ".join(words[:_SHOWN])}: see the output of that process'
  first = found[0]
  words = [
    f'{what} is {_short(each.get(what, "absent"))} on {names[i]} and '
    f'{_short(first.get(what, "absent"))} on {names[0]}'
    for i, each in enumerate(found)
    for what in first | each
    if what != 'host' and each.get(what) != first.get(what)
  ]
  more = f'; {len(words) - _SHOWN} more differ' if len(words) > _SHOWN else ''
  told = '; '.join(words[:_SHOWN])
  return f'{told}{more}. Give every host the same, and start again' if words else ''


def fingerprint(experiment: Experiment, workdir: Any, mode: str) -> dict[str, str]:
  """Returns everything in which the processes of a run must agree, by name."""
  config = experiment.config
  keys = configuration.leaves(config)
  device = jax.local_devices()[0]
  sets = {'evaluation data': experiment.eval_set}
  if mode == 'train':
    sets['training data'] = experiment.train_set
  return {
    '--mode': mode,
    '--workdir': str(folder(workdir)),
    **{f'config.{key}': repr(value) for key, value in keys if key not in LOCAL},
    **{f'the version of {name}': _version(name) for name in PACKAGES},
    'the version of scs_jax': __version__,
    **{name: str(jax.config.values[name]) for name in SETTINGS},
    **{f'${name}': _options(name) for name in VARIABLES},
    'the code of scs_jax': _digest_of_files(PACKAGE.rglob('*.py')),
    **_own_code(config.model.name, config.data.name),
    **{name: _describe(examples) for name, examples in sets.items()},
    'the number of devices': str(jax.local_device_count()),
    'the kind of devices': f'{device.platform} {device.device_kind}',
  }


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return 'absent'


def _options(variable: str) -> str:
  """Returns the options in a variable of the environment, without those that dump files."""
  words = os.environ.get(variable, '').split()
  return ' '.join(sorted(word for word in words if 'dump' not in word))


def _own_code(*names: str) -> dict[str, str]:
  """Returns a digest of each file of the user that a name such as 'my_nets:MyNet' brings in."""
  found = {}
  for name in names:
    module = sys.modules.get(name.partition(':')[0])
    file = getattr(module, '__file__', None)
    if ':' not in name or file is None:
      continue
    home = pathlib.Path(file).parent
    for other in list(sys.modules.values()):
      path = pathlib.Path(getattr(other, '__file__', None) or '/')
      if path.parent == home and path.suffix == '.py':
        found[f'the code of {path.name}'] = _digest_of_files([path])
  return found


def _describe(examples: Any) -> str:
  """Returns sizes of a data set, and digests of its labels and of some images."""
  numbers = np.unique(np.linspace(0, examples.size - 1, _SAMPLE).astype(int)).tolist()
  if isinstance(examples, data.Examples):
    labels, images = examples.labels, examples.images[numbers]
  else:
    labels, images = map(np.array, zip(*_read(examples, numbers), strict=True))
  return (
    f'{examples.size} images {tuple(examples.image_shape)} of {examples.num_classes} classes, '
    f'labels {_digest(labels)}, images {_digest(images)}'
  )


def _read(records: Any, numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
  for number in numbers:
    try:
      image, label = records.read(number, None)
    except UserError:  # a bad record, which may be allowed
      image, label = np.zeros(records.image_shape, np.uint8), -1
    yield label, image


def _digest(array: np.ndarray) -> str:
  return hashlib.sha256(array.tobytes()).hexdigest()[:8]


def _digest_of_files(paths: Any) -> str:
  total = hashlib.sha256()
  for path in sorted(paths):
    total.update(path.read_bytes())
  return total.hexdigest()[:8]


def _short(value: str) -> str:
  if len(value) <= _LONGEST:
    return value
  return f'{value[:_LONGEST]}… ({hashlib.sha256(value.encode()).hexdigest()[:8]})'


# ------------------------------------------------------------------------------- The first save


def check_replicas(step: int, state: State) -> None:
  """Checks that all copies of the parameters and statistics are the same bits; a collective.

  Args:
    step: the number of steps made.
    state: after that step.

  Raises:
    DivergedError: two devices hold different values of one array.
  """
  tree = {'params': state.params, 'statistics': state.statistics}
  mine: dict[str, list[str]] = collections.defaultdict(list)
  for path, leaf in jax.tree.leaves_with_path(tree):
    if len(leaf.sharding.device_set) > 1:
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      for shard in leaf.addressable_shards:  # those of one index are copies
        mine[f'{name} {shard.index}'].append(_digest(np.asarray(shard.data)))
  copies: dict[str, set[str]] = collections.defaultdict(set)
  for index, digests in enumerate(processes.gather(mine)):
    for name, each in digests.items():
      copies[name].update(each)
      if len(copies[name]) > 1:
        raise DivergedError(
          f'after step {step} process {index} has other values of {name.partition(" ")[0]} on one '
          'device than on another, or than the processes before it: the checkpoint is not written. '
          'A device or its memory is faulty, or hosts run different programs. Start again from the '
          'last checkpoint, on other hardware if it happens again'
        )
