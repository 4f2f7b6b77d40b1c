import numpy as np
import pytest
from etils import epath
from PIL import Image

from scs_jax import pictures


@pytest.mark.parametrize('inputs', [1, 3, 2])
def test_kernels_are_drawn_in_their_colours(tmp_path, inputs):
  kernel = np.zeros((3, 3, inputs, 4), np.float32)
  kernel[..., 0] = 1
  kernel[..., 1] = -1
  path = epath.Path(tmp_path / 'kernels.png')
  pictures.draw_kernels(kernel, path)
  pixels = np.asarray(Image.open(path).convert('RGB')).reshape(-1, 3).astype(int)
  if inputs == 3:  # 1 is white, -1 black, 0 grey
    assert {(0, 0, 0), (255, 255, 255)} <= set(map(tuple, pixels))
    assert (np.abs(pixels - 128).max(-1) <= 1).any()
  else:  # red and blue
    assert (pixels[:, 0] - pixels[:, 2]).max() > 60
    assert (pixels[:, 2] - pixels[:, 0]).max() > 60


def test_feature_maps_are_signed(tmp_path):
  maps = np.stack([np.ones((4, 4)), -np.ones((4, 4))], -1)
  path = epath.Path(tmp_path / 'maps.png')
  pictures.draw_feature_maps(np.zeros((4, 4, 3)), maps, path)
  pixels = np.asarray(Image.open(path).convert('RGB')).reshape(-1, 3).astype(int)
  assert (pixels[:, 0] - pixels[:, 2]).max() > 60
  assert (pixels[:, 2] - pixels[:, 0]).max() > 60


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 7])
def test_an_image_of_any_number_of_channels_is_shown_under_its_name(tmp_path, channels):
  image, path = np.full((4, 4, channels), 0.5), epath.Path(tmp_path / 'maps.png')
  pictures.draw_feature_maps(image, np.zeros((4, 4, 1)), path, 'a $name$ that is {long')
  pixels = np.asarray(Image.open(path).convert('RGB')).reshape(-1, 3).astype(int)
  assert (np.abs(pixels - 127).max(-1) <= 1).sum() > 1000  # the image, grey
