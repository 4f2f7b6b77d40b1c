"""Stands in for ssh where there is no sshd: `link.py SHELL COMMAND` runs a command on a worker.

As with ssh, the command is in a session of its own. If this process is killed, the command goes on,
and only its pipes break.
"""

import subprocess
import sys
import threading
from typing import IO


def copy(source: IO[bytes], target: IO[bytes]) -> None:
  while chunk := source.read1(65536):  # type: ignore[attr-defined]
    target.write(chunk)
    target.flush()


def main() -> None:
  shell, command = sys.argv[1:]
  remote = subprocess.Popen(
    [shell, command],
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    start_new_session=True,
  )
  pairs = ((remote.stdout, sys.stdout.buffer), (remote.stderr, sys.stderr.buffer))
  threads = [threading.Thread(target=copy, args=pair, daemon=True) for pair in pairs]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  sys.exit(remote.wait() if remote.wait() >= 0 else 255)


if __name__ == '__main__':
  main()
