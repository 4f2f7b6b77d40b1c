"""Stands in for the training on a worker: obeys the steps in the bed's `program.json`.

Each start adds a line to `starts.jsonl`: worker, arguments, process id, folder and environment. The
steps are those of this worker's n-th start, of this worker, or of all.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

BED = pathlib.Path(os.environ.get('BED', '.'))
WORKER = pathlib.Path(os.environ.get('HOME', '.')).name


def stop(*_: object) -> None:
  """Ends as the training does after SIGTERM: it has saved, and its exit code is 0."""
  print('stopped by SIGTERM after saving')
  sys.exit(0)


def main() -> None:
  kept = ('JAX_PLATFORMS', 'TFDS_DATA_DIR')
  start = {
    'worker': WORKER,
    'argv': sys.argv[1:],
    'pid': os.getpid(),
    'folder': sorted(os.listdir('.')),
    **{name: os.environ.get(name) for name in kept},
  }
  with (BED / 'starts.jsonl').open('a') as file:
    file.write(json.dumps(start) + '\n')
  starts = (BED / 'starts.jsonl').read_text().splitlines()
  number = sum(json.loads(line)['worker'] == WORKER for line in starts)
  programs = json.loads((BED / 'program.json').read_text())
  steps = next(programs[k] for k in (f'{WORKER}.{number}', WORKER, 'all') if k in programs)
  signal.signal(signal.SIGTERM, stop)
  for step in steps:
    verb, _, word = step.partition(' ')
    if verb == 'print':
      print(word, flush=True)
    elif verb == 'lines':
      sys.stdout.writelines(f'line {i}\n' for i in range(int(word)))
    elif verb == 'letters':
      print('@' * int(word) + '\0end', end='', flush=True)
    elif verb == 'wait':
      while not (BED / word).exists():
        time.sleep(0.02)
    elif verb == 'exit':
      sys.exit(int(word))
    elif verb == 'kill':
      os.kill(os.getpid(), signal.Signals[word])
    elif verb == 'ignore':
      signal.signal(signal.Signals[word], signal.SIG_IGN)
    elif verb == 'leave':  # a child that lives longer than its parent
      subprocess.Popen(['sleep', word], close_fds=False)
    elif verb == 'detach':  # a child that no signal to its parent's group reaches
      subprocess.Popen(['sleep', word], close_fds=False, start_new_session=True)
    elif verb == 'fill':  # the disk
      with pathlib.Path('filler').open('wb', buffering=0) as file:
        try:
          while file.write(bytes(4096)):
            pass
        except OSError as error:
          print(error, flush=True)
    else:
      raise ValueError(step)


if __name__ == '__main__':
  main()
