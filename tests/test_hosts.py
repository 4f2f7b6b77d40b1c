"""Processes join, or one line says within seconds why they cannot."""

import socket
import threading

import jax
import pytest

from scs_jax.errors import ArgumentError
from scs_jax.train import hosts

NAMES = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')


@pytest.fixture
def join(monkeypatch):
  """Sets the environment and joins; what would reach JAX is returned instead."""
  monkeypatch.setattr(hosts, 'REACH_SECONDS', 0.5)
  reached = []
  monkeypatch.setattr(jax.distributed, 'initialize', lambda *args, **_: reached.append(args))

  def join(*values, distributed=False):
    for name, value in zip(NAMES, values, strict=False):
      monkeypatch.setenv(name, value)
    hosts.join(distributed)
    return reached

  return join


@pytest.fixture
def listening():
  """Starts a server that greets with some bytes; returns its address."""
  servers = []

  def listening(greeting):
    server = socket.create_server(('127.0.0.1', 0))
    servers.append(server)

    def serve():
      connection, _ = server.accept()
      with connection:
        connection.recv(100)
        connection.sendall(greeting)

    threading.Thread(target=serve, daemon=True).start()
    return f'127.0.0.1:{server.getsockname()[1]}'

  yield listening
  for server in servers:
    server.close()


def test_one_machine_joins_nothing(join):
  assert join() == []


def test_a_coordinator_that_answers_is_joined(join, listening):
  address = listening(b'\0\0\0\4\0\0\0\0\0')
  assert join(address, '2', '1') == [(address, 2, 1)]


@pytest.mark.parametrize(
  ('address', 'count', 'index', 'said'),
  [
    ('localhost', '2', '1', "'localhost' must be HOST:PORT"),
    ('localhost:x', '2', '1', 'must be HOST:PORT'),
    ('localhost:0', '2', '1', 'must be HOST:PORT'),
    ('localhost:65536', '2', '1', 'must be HOST:PORT'),
    (':1234', '2', '1', 'must be HOST:PORT'),
    ('', '2', '1', 'must be HOST:PORT'),
    ('localhost:1', 'two', '1', "must be numbers, got .*'two'"),
    ('localhost:1', '2', '', 'must be numbers'),
    ('localhost:1', '2', '-1', 'must be numbers'),
    ('localhost:1', '2', '2', 'JAX_PROCESS_ID=2 must be below JAX_NUM_PROCESSES=2'),
    ('localhost:1', '0', '0', 'must be below JAX_NUM_PROCESSES=0'),
    ('localhost:1', '2', '1', 'does not answer process 1 of 2; start process 0 first .*refused'),
    ('nowhere.invalid:1', '2', '1', 'nowhere.invalid:1 does not answer'),
  ],
)
def test_a_wrong_coordinator_is_told(join, address, count, index, said):
  with pytest.raises(ArgumentError, match=said):
    join(address, count, index)


def test_what_is_no_coordinator_is_told(join, listening):
  with pytest.raises(ArgumentError, match='does not answer'):
    join(listening(b'SSH-2.0-OpenSSH_9.6\r\n'), '2', '1')


def test_a_port_that_is_taken_is_told(join, monkeypatch):
  def refuse(*_, **__):
    raise RuntimeError('Failed to start RPC server')

  monkeypatch.setattr(jax.distributed, 'initialize', refuse)
  with pytest.raises(ArgumentError, match=r'cannot join .*Failed to start.*port must be free'):
    join('localhost:1234', '2', '0')


def test_distributed_on_a_laptop_is_told(monkeypatch):
  monkeypatch.delenv('JAX_COORDINATOR_ADDRESS', raising=False)

  def find_nothing():
    raise ValueError('coordinator_address should be defined.')

  monkeypatch.setattr(jax.distributed, 'initialize', find_nothing)
  with pytest.raises(ArgumentError, match=r'--distributed found neither .* leave it out'):
    hosts.join(distributed=True)
