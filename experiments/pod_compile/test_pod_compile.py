"""What is read from a compiled step, without compiling one."""

import pytest

from experiments.results import read


@pytest.fixture
def pod(load):
  return load('experiments.pod_compile.__main__')


def test_collectives_are_counted_with_the_bytes_that_they_give(pod):
  text = """
    %a = (f32[10,2]{1,0}, bf16[4]{0}) all-reduce(%x, %y), replica_groups={}
    %b = f32[8]{0} all-gather-start(%z), dimensions={0}
    %c = f32[8]{0} all-gather-done(%b)
    %d = f32[8]{0} add(%b, %b)
  """
  assert pod.collectives(text) == {
    'all-reduce': {'count': 1, 'bytes': 4 * 20 + 2 * 4},
    'all-gather': {'count': 1, 'bytes': 4 * 8},
  }


def test_a_data_parallel_network_that_gathers_its_parameters_twice_is_refused(pod):
  found = {'all-gather': {'count': 2, 'bytes': 200_000_000}}
  result = {'collectives': found, 'parameter_bytes': 50_000_000}
  pod.check('v5e:2x2,fsdp,scs', result)
  with pytest.raises(AssertionError):
    pod.check('v5e:2x2,data,scs', result)


def test_the_readme_has_the_table_of_the_results(pod):
  results = {line['row']: line for line in read(pod.RESULTS)}
  assert list(results) == list(pod.ROWS)
  assert pod.table(results) in (pod.HERE / 'README.md').read_text()
