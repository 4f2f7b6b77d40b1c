"""The import of TFDS."""

from typing import Any

from scs_jax.errors import MissingPackageError


def import_tfds() -> Any:
  """Imports TFDS, which takes a second, when it is first needed.

  Raises:
    MissingPackageError: TFDS is not installed.
  """
  try:
    import tensorflow_datasets
  except ImportError as error:
    raise MissingPackageError(
      f"tensorflow_datasets cannot be imported ({error}); run: pip install 'scs-jax[train]'"
    ) from error
  return tensorflow_datasets
