"""Google's client for single objects: it has generations and time limits, which fsspec lacks."""

import functools
import os
from typing import Any

from scs_jax.errors import ArgumentError

_REQUEST_SECONDS = 5.0


def blob(address: str | os.PathLike[str]) -> Any:
  """Returns the object `gs://BUCKET/NAME` as a `google.cloud.storage.Blob`.

  Raises:
    ArgumentError: the client is not installed.
  """
  try:
    client = _client(os.environ.get('STORAGE_EMULATOR_HOST'))
  except ImportError as error:
    raise ArgumentError(f"{address} needs pip install 'scs-jax[gcs]': {error}") from error
  bucket, _, name = os.fspath(address).removeprefix('gs://').partition('/')
  return client.bucket(bucket).blob(name)


@functools.cache
def _client(emulator: str | None) -> Any:
  """Returns a client of the server that the environment names."""
  from google.auth.exceptions import DefaultCredentialsError
  from google.cloud import storage  # late: only buckets need it

  del emulator  # the client reads it again
  try:
    return storage.Client(project=None)
  except DefaultCredentialsError:
    return storage.Client.create_anonymous_client()  # enough to read a public bucket


def limits() -> dict[str, Any]:
  """Returns the arguments that limit the time of a request, with all its repetitions."""
  from google.cloud.storage.retry import DEFAULT_RETRY

  return {'timeout': _REQUEST_SECONDS, 'retry': DEFAULT_RETRY.with_timeout(_REQUEST_SECONDS)}
