"""SCS in PyTorch, written from the formula that its PyTorch versions share; and the usual block.

    y = sign(c) (|c| + 1e-6)^p,  c = s.k / ((sqrt(|s|^2 + 1e-6) + q) |k|)

with the norm of the patches as a convolution of the squares with ones, absolute max pooling as two
max pools, p for every kernel and one q, all learned.
"""

import torch
from torch import nn
from torch.nn import functional

POSITIVE = 1e-6


class Similarity(nn.Module):
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
  def __init__(self, in_features, features, window, strides=1, groups=1, padding=None, rank=2):
    super().__init__()
    padding = (window // 2) if padding is None else padding
    kind, norm = (
      (nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d)
    )[rank - 1]  # fmt: skip
    self.conv = kind(in_features, features, window, strides, padding, groups=groups, bias=False)
    self.norm = norm(features)

  def forward(self, x):
    return functional.relu(self.norm(self.conv(x)))


class AbsMaxPool(nn.Module):
  def __init__(self, window):
    super().__init__()
    self.window = window

  def forward(self, x):
    pool = lambda x: functional.max_pool2d(x, self.window, ceil_mode=True)
    high, low = pool(x), pool(-x)
    return torch.where(high >= low, high, -low)


def network(stack, channels, size, twin=False):
  """Builds the network that a `stack` of `scs_jax.models.ScsNet` describes."""
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


def forward_and_gradients(module, shape):
  """Returns two functions of no argument for an input of `shape` (channels second)."""
  x = torch.randn(shape, requires_grad=True)
  cotangent = torch.randn_like(module(x))
  inputs = [x, *module.parameters()]

  def forward():
    with torch.no_grad():
      return module(x)

  return forward, lambda: torch.autograd.grad(module(x), inputs, cotangent)


def train_step(stack, image, batch, twin=False):
  """Returns a function of no argument that makes one step of Adam."""
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
