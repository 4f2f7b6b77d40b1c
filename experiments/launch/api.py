"""Stands in for Google's TPU service, as far as the real gcloud needs it to reach the workers.

Writes its address to the bed's `api`. Every operation is done when it is answered.
"""

import http.server
import json
import urllib.parse
from http import HTTPStatus
from typing import Any

from experiments.launch import cloud
from experiments.launch.cloud import BED

CODES = {
  'ALREADY_EXISTS': HTTPStatus.CONFLICT,
  'NOT_FOUND': HTTPStatus.NOT_FOUND,
  'PERMISSION_DENIED': HTTPStatus.FORBIDDEN,
  'RESOURCE_EXHAUSTED': HTTPStatus.TOO_MANY_REQUESTS,
}
HOST_KEY = {'namespace': 'hostkeys', 'key': 'ssh-ed25519', 'value': 'abcdef'}


def operation(kind: str, name: str) -> dict[str, Any]:
  response = {'@type': f'type.googleapis.com/google.cloud.tpu.v2.{kind}', 'name': name}
  return {'name': 'projects/p/locations/z/operations/o', 'done': True, 'response': response}


def node(name: str) -> dict[str, Any]:
  """Returns the machine with the addresses of its workers."""
  with cloud.state() as state:
    endpoints = [{'ipAddress': worker['address']} for worker in state['workers']]
  return {
    'name': name,
    'id': '1',
    'state': 'READY' if cloud.is_usable(name.split('/')[-1]) else 'PREEMPTED',
    'health': 'HEALTHY',
    'apiVersion': 'V2',
    'networkEndpoints': endpoints,
    'metadata': {},
  }


def answer(method: str, path: str, query: dict[str, list[str]]) -> dict[str, Any] | str:
  """Returns the answer to a request, or the text of an error."""
  name = path.partition('/v2/')[2]
  zone = name.split('/')[3] if '/locations/' in name else None
  *_, kind, last = path.split('/')
  if path.endswith('/projects/p'):
    return {'kind': 'compute#project', 'name': 'p', 'commonInstanceMetadata': {'items': []}}
  if last.endswith(':getGuestAttributes'):
    with cloud.state() as state:
      workers = state['workers']
    return {'guestAttributes': [{'queryValue': {'items': [HOST_KEY]}} for _ in workers]}
  if kind == 'nodes':
    return node(name) if method == 'GET' else operation('Node', name)
  if last == 'queuedResources':
    (created,) = query['queuedResourceId']
    return cloud.create(created, zone) or operation('QueuedResource', f'{name}/{created}')
  if kind == 'queuedResources':
    now = cloud.look(last, zone)
    if not now:
      return f"NOT_FOUND: Resource '{name}' was not found"
    if method == 'GET':
      return {'name': name, 'state': {'state': now}}
    cloud.delete()
  return operation('QueuedResource', name)


class Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self) -> None:
    self.rfile.read(int(self.headers.get('Content-Length') or 0))
    url = urllib.parse.urlparse(self.path)
    found = answer(self.command, url.path, urllib.parse.parse_qs(url.query))
    code = HTTPStatus.OK
    if isinstance(found, str):
      status, _, message = found.partition(': ')
      code = CODES[status]
      found = {'error': {'code': code, 'status': status, 'message': message}}
    body = json.dumps(found).encode()
    self.send_response(code)
    self.send_header('Content-Type', 'application/json')
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    self.wfile.write(body)

  do_POST = do_PATCH = do_DELETE = do_GET

  def log_request(self, code: int | str = '-', size: int | str = '-') -> None:
    pass  # it would be printed


def main() -> None:
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  draft = BED / 'api.draft'
  draft.write_text(f'http://127.0.0.1:{server.server_port}')
  draft.rename(BED / 'api')
  server.serve_forever()


if __name__ == '__main__':
  main()
