"""What the TPU compiler counts for a layer, pinned; needs libtpu, but no TPU."""

import json
import os
import subprocess
import sys

import pytest

from experiments.results import ROOT


def test_a_chain_of_layers_on_tpu_moves_fewer_bytes_than_the_block_it_replaces():
  pytest.importorskip('libtpu', reason='the TPU compiler: pip install libtpu')
  code = (
    'import json, jax.numpy as jnp; from experiments.speed import layers, tpu;'
    'tpu.without_a_chip(); shape = layers.SHAPES[2];'
    'rows = [tpu.chain_cost(shape, row, jnp.bfloat16) for row in tpu.FORMULATIONS[:3]];'
    'print(json.dumps(rows))'
  )
  run = subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert run.returncode == 0, run.stderr
  bare, block, ours = json.loads(run.stdout.splitlines()[-1])
  # Measured 0.92 of the bytes and 1.01 of the flops; four bare convolutions are the floor.
  assert bare['bytes accessed'] < ours['bytes accessed'] < 0.95 * block['bytes accessed']
  assert ours['flops'] < 1.05 * block['flops']
