"""Google's client for single objects: it has generations and time limits, which fsspec lacks."""

import functools
import os
from typing import Any

from scs_jax.errors import ArgumentError
from scs_jax.workdir import storage

_REQUEST_SECONDS = 5.0


def blob(address: str | os.PathLike[str]) -> Any:
  """Returns the object `gs://BUCKET/NAME` as a `google.cloud.storage.Blob`.

  Raises:
    ArgumentError: the client is not installed.
  """
  try:
    client, _ = _client(os.environ.get('STORAGE_EMULATOR_HOST'))
  except ImportError as error:
    raise ArgumentError(f"{address} needs pip install 'scs-jax[gcs]': {error}") from error
  bucket, _, name = os.fspath(address).removeprefix('gs://').partition('/')
  return client.bucket(bucket).blob(name)


@functools.cache
def _client(emulator: str | None) -> tuple[Any, str]:
  """Returns a client of the server that the environment names, and why it has no credentials."""
  from google.auth.exceptions import DefaultCredentialsError
  from google.cloud import storage as google  # late: only buckets need it

  del emulator  # the client reads it again
  try:
    return google.Client(project=None), ''
  except DefaultCredentialsError as error:
    # Enough to read a public bucket.
    return google.Client.create_anonymous_client(), str(error).partition('. ')[0]


def unreachable(what: str, error: Exception) -> ArgumentError:
  """Returns the error of a bucket that does not answer, with its remedy.

  Args:
    what: argument and address, such as '--workdir gs://bucket/run'.
    error: of the network, the credentials or the bucket, which have many kinds.
  """
  _, no_credentials = _client(os.environ.get('STORAGE_EMULATOR_HOST'))
  remedy = 'check its name, the network and your rights'
  if no_credentials:
    remedy = (
      f'there are no credentials ({no_credentials}): run gcloud auth application-default login, or '
      'set GOOGLE_APPLICATION_CREDENTIALS'
    )
  return ArgumentError(f'{what} cannot be reached; {remedy}. {storage.reason(error)}')


def check_reached(argument: str, address: str) -> None:
  """Raises ArgumentError if a bucket does not answer.

  Args:
    argument: that names the bucket, for the message.
    address: `gs://BUCKET/FOLDER`.
  """
  try:
    blob(address).exists(**limits())
  except ArgumentError:
    raise
  except Exception as error:
    raise unreachable(f'{argument} {address}', error) from error


def limits() -> dict[str, Any]:
  """Returns the arguments that limit the time of a request, with all its repetitions."""
  from google.cloud.storage.retry import DEFAULT_RETRY

  return {'timeout': _REQUEST_SECONDS, 'retry': DEFAULT_RETRY.with_timeout(_REQUEST_SECONDS)}
