"""The examples in docstrings run and print what they say."""

import doctest
import importlib
import pathlib

import pytest

import scs_jax

PACKAGE = pathlib.Path(scs_jax.__file__).parent
FILES = [path for path in sorted(PACKAGE.rglob('*.py')) if '>>>' in path.read_text()]
# Public functions and classes whose docstring must have an example.
SHOWN = ('abs_max_pool', 'sharpened_cosine_similarity', 'soft_cosine_similarity', 'load')


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_examples_print_what_they_say(quick_compilation, path):
  name = '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts)
  results = doctest.testmod(importlib.import_module(name.removesuffix('.__init__')))
  assert results.failed == 0


@pytest.mark.parametrize('name', SHOWN)
def test_public_functions_have_an_example(name):
  assert '>>>' in getattr(scs_jax, name).__doc__
