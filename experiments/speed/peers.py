"""SCS in PyTorch, written from the formula that its PyTorch implementations share, and the block.

    y = sign(c) (|c| + 1e-6)^p,  c = s.k / ((sqrt(|s|^2 + 1e-6) + q) |k|)

The norm of the patches is a convolution of the squares with ones. Absolute max pooling is two max
pools. Each kernel learns its own p, and all share one learned q.
"""

# PyTorch is optional: without it these formulations are not measured.
# pyright: reportMissingImports=false

import os
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

POSITIVE = 1e-6


def use_all_cores() -> None:
  """Lets PyTorch compute on every core."""
  torch.set_num_threads(os.cpu_count() or 1)


class Similarity(nn.Module):
  """An SCS layer; images are `[batch, channels, *spatial]`."""

  def __init__(self, in_features, features, window, strides=1, groups=1, padding=None, rank=2):
    super().__init__()
    self.kernel = nn.Parameter(torch.empty(features, in_features // groups, *(window,) * rank))
    nn.init.uniform_(self.kernel, -1, 1)
    self.p = nn.Parameter(torch.full((features,), 2.0))
    self.log_q = nn.Parameter(torch.tensor(1e-3).log())
    self.register_buffer('ones', torch.ones(groups, *self.kernel.shape[1:]))
    padding = (window // 2) if padding is None else padding
    self.settings = {'stride': strides, 'padding': padding, 'groups': groups}
    self.convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]

  def forward(self, x):
    per_kernel = lambda v: v.reshape(1, -1, *(1,) * (x.ndim - 2))
    norm = (self.convolve(x**2, self.ones, **self.settings) + POSITIVE).sqrt() + self.log_q.exp()
    norm = norm.repeat_interleave(len(self.kernel) // norm.shape[1], 1)
    length = per_kernel((self.kernel**2).flatten(1).sum(1).sqrt())
    c = self.convolve(x, self.kernel, **self.settings) / (norm * length)
    return c.sign() * (c.abs() + POSITIVE) ** per_kernel(self.p)


class Block(nn.Module):
  """Convolution, BatchNorm and ReLU."""

  def __init__(self, in_features, features, window, strides=1, groups=1, padding=None, rank=2):
    super().__init__()
    padding = (window // 2) if padding is None else padding
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1]
    self.conv = kind(in_features, features, window, strides, padding, groups=groups, bias=False)
    self.norm = norm(features)

  def forward(self, x):
    return functional.relu(self.norm(self.conv(x)))


class AbsMaxPool(nn.Module):
  """Absolute max pooling over squares of `window` pixels."""

  def __init__(self, window):
    super().__init__()
    self.window = window

  def forward(self, x):
    pool = lambda x: functional.max_pool2d(x, self.window, ceil_mode=True)
    high, low = pool(x), pool(-x)
    return torch.where(high >= low, high, -low)


def network(
  stack: Sequence[Mapping], channels: int, size: int, twin: bool = False
) -> nn.Sequential:
  """Returns the network that a `stack` of `scs_jax.models.scs_net.ScsNet` describes."""
  modules = []
  for entry in stack:
    entry = {'window': 3, 'padding': 'SAME', **entry}
    kind, window = entry['kind'], entry['window']
    if kind == 'pool':
      modules.append(nn.MaxPool2d(window, ceil_mode=True) if twin else AbsMaxPool(window))
      size = -(-size // window)
    elif kind == 'head':
      modules += [nn.Flatten(), nn.Linear(channels * size**2, 10)]
    else:
      window = 1 if kind == 'pointwise' else window
      groups = channels if kind == 'depthwise' else 1
      out = channels * entry.get('multiplier', 1) if kind == 'depthwise' else entry['features']
      padding = {'SAME': window // 2, 'VALID': 0}.get(entry['padding'], entry['padding'])
      padding = 0 if kind == 'pointwise' else padding
      make = Block if twin else Similarity
      modules.append(make(channels, out, window, groups=groups, padding=padding))
      channels, size = out, size + 2 * padding - window + 1
  return nn.Sequential(*modules)


def forward_and_gradients(module: nn.Module, shape: Sequence[int]) -> tuple[Callable, Callable]:
  """Returns the forward pass and the gradients as functions without arguments.

  Args:
    module: any layer.
    shape: of its input, channels second.
  """
  x = torch.randn(shape, requires_grad=True)
  cotangent = torch.randn_like(module(x))
  inputs = [x, *module.parameters()]

  def forward():
    with torch.no_grad():
      return module(x)

  return forward, lambda: torch.autograd.grad(module(x), inputs, cotangent)


def train_step(
  stack: Sequence[Mapping], image: tuple[int, int, int], batch: int, twin: bool = False
) -> Callable[[], float]:
  """Returns a function without arguments that makes one step of Adam and returns its loss."""
  model = network(stack, image[-1], image[0], twin)
  optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
  x = torch.rand(batch, image[-1], *image[:-1])
  labels = torch.randint(0, 10, (batch,))

  def step():
    optimizer.zero_grad()
    loss = functional.cross_entropy(model(x), labels)
    loss.backward()
    optimizer.step()
    return loss.item()

  return step
