"""The state of the cloud that stands in for Google's, in the bed's `cloud.json`.

resource: the queued resource, or None. Each look shows the next of its `states`; the last stays.
creations: what each creation does: a list of states, or the text of an error. The last stays.
created, deleted: the calls of create, and how many resources were deleted.
broken: commands of gcloud that fail, e.g. {'describe': 3} for three times.
repeats: an operation of run_tpu.sh after which gcloud loses the connection to worker 0, once.
gcloud: the path of a real gcloud, or None.
workers: home, shell, address and port of each.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

BED = pathlib.Path(os.environ.get('BED', '.'))


@contextlib.contextmanager
def state(folder: pathlib.Path = BED) -> Iterator[dict[str, Any]]:
  """Gives the state of the cloud; changes are kept."""
  path, draft = folder / 'cloud.json', folder / 'cloud.draft'
  with (folder / 'cloud.lock').open('a') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    values = json.loads(path.read_text()) if path.exists() else {}
    try:
      yield values
    finally:  # by rename, because a scenario may kill this process at any moment
      draft.write_text(json.dumps(values))
      draft.replace(path)


def create(name: str, zone: str | None = None) -> str:
  """Creates a queued resource; returns the error, if there is one."""
  with state() as cloud:
    if cloud['resource']:
      return f'ALREADY_EXISTS: Resource {name!r} already exists'
    plan = cloud['creations'][0]
    cloud['creations'] = cloud['creations'][1:] or [plan]
    if isinstance(plan, str):
      return plan
    cloud['resource'] = {'name': name, 'states': plan, 'zone': zone}
  return ''


def look(name: str, zone: str | None = None) -> str:
  """Returns the state of a queued resource, and lets it go on to the next; '' if there is none."""
  with state() as cloud:
    resource = cloud['resource']
    if not resource or resource['name'] != name or resource.get('zone') not in (zone, None):
      return ''
    now, *rest = resource['states']
    resource['states'] = rest or [now]
  return now


def delete() -> None:
  """Deletes the queued resource, and what its workers had on their disks."""
  with state() as cloud:
    cloud['resource'] = None
    cloud['deleted'] += 1
  for worker in cloud['workers']:
    shutil.rmtree(worker['home'])
    pathlib.Path(worker['home']).mkdir()


def is_usable(name: str) -> bool:
  """Returns whether the machine is there."""
  with state() as cloud:
    resource = cloud['resource']
  return bool(resource) and resource['name'] == name and resource['states'][0] == 'ACTIVE'
