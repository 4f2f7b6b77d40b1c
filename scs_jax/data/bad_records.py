"""Records that cannot be read: which ones, and how many may be left out."""

from absl import logging

from scs_jax.errors import ArgumentError


class BadRecordError(ArgumentError):
  """A record, or a picture of a folder, cannot be read or decoded.

  Args:
    problem: names the record and says what is wrong.
    remedy: what the user can do to the record.
    otherwise: what else the user can do.
  """

  def __init__(
    self, problem: str, remedy: str, otherwise: str = ', or leave it out: data.skip_bad_records=1'
  ) -> None:
    super().__init__(problem, remedy, otherwise)  # worker processes send it as its arguments
    self.problem, self.remedy, self.otherwise = problem, remedy, otherwise

  def __str__(self) -> str:
    return f'{self.problem}. {self.remedy}{self.otherwise}'


class BadRecords:
  """Counts the bad records of a split, and allows some.

  Args:
    count: the number of records of the split.
    allowed: how many of them may be bad, at least 0.

  Raises:
    ArgumentError: `allowed` is below 0.
  """

  def __init__(self, count: int, allowed: int) -> None:
    if allowed < 0:
      raise ArgumentError(f'data.skip_bad_records must be at least 0, got {allowed}')
    self._count, self._allowed = count, allowed
    self._numbers: set[int] = set()

  @property
  def numbers(self) -> list[int]:
    """The numbers of the bad records, ascending."""
    return sorted(self._numbers)

  def __contains__(self, number: int) -> bool:
    return number in self._numbers

  def add(self, number: int, error: BadRecordError) -> None:
    """Counts a bad record, once, and says so.

    Args:
      number: of the record.
      error: names it and says what is wrong.

    Raises:
      BadRecordError: more records are bad than are allowed, or all of them.
    """
    if number in self:
      return
    self._numbers.add(number)
    bad = len(self._numbers)
    found = f'{bad} of {self._count} records are bad'
    if bad > self._allowed or bad == self._count:
      if not self._allowed:
        raise error
      problem = f'{error.problem}. {found}, and data.skip_bad_records={self._allowed}'
      raise BadRecordError(problem, error.remedy, otherwise='') from error
    logging.warning('%s. It is left out: %s, of at most %d', error.problem, found, self._allowed)
