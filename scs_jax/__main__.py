"""The command `scs-jax`, and `python -m scs_jax`: see `main.py`."""

import importlib
import sys


def run() -> None:
  """Runs the command line; says how to install what it needs if that is absent."""
  try:
    main = importlib.import_module('scs_jax.main')
  except ModuleNotFoundError as error:
    if (error.name or '').startswith('scs_jax'):
      raise
    sys.exit(f"error: {error.name} is not installed; run: pip install 'scs-jax[train]'")
  main.run()


if __name__ == '__main__':
  run()
