"""Options: each is declared once, with type, range and meaning, where it is used.

An option is a parameter of a constructor or function that gin may bind. Its annotation says all
of it, and the reference page and every check read it there:

    horizon: Annotated[int, Option("H, model steps in the policy's objective", low=0)] = 5

`configurable` makes a class or function one of gin's; parameters that are no options are parts that
the caller gives, which gin may not bind.
"""

import dataclasses
import functools
import inspect
import math
import numbers
import typing
from collections.abc import Callable, Sequence
from typing import Any

import gin

T = typing.TypeVar("T", bound=Callable[..., Any])


class ConfigError(ValueError):
  """What the user asked for cannot be run; the message is for them."""

  def _render_traceback_(self) -> list[str]:
    """What IPython shows of it: line and notes, without the calls that led to it."""
    return [f"{type(self).__name__}: {self}", *getattr(self, "__notes__", ())]


def integer(name: str, value: Any) -> int:
  """A number that is whole, as an int of Python: 1000, 1e3, np.int64(1000).

  Raises:
    ConfigError: for anything else.
  """
  is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if not is_number or not float(value).is_integer():
    raise ConfigError(f"{name} must be an integer, not {value!r}.")
  return int(value)


def require(condition: object, message: str) -> None:
  """Raises ValueError with the message unless the condition holds."""
  if not condition:
    raise ValueError(message)


@dataclasses.dataclass(frozen=True)
class Option:
  """Meaning and range of an option: metadata of `typing.Annotated`.

  Attributes:
    doc: what it is, with its unit.
    low, high: the range of a number, or of each number of a tuple, both included.
    choices: of a text.
  """

  doc: str
  low: float = -math.inf
  high: float = math.inf
  choices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Declared:
  """An option with what its parameter says of it.

  Attributes:
    name: OWNER.parameter, as in a gin file.
    kind: int, float, bool, str, a tuple of int, a dict, or a class.
    optional: whether None is a value.
    default: `inspect.Parameter.empty` where there is none.
  """

  name: str
  kind: Any
  optional: bool
  default: Any
  option: Option

  def expected(self) -> str:
    """What a value must be, in words that follow "must be"."""
    low, high = self.option.low, self.option.high
    if self.option.choices:
      words = " or ".join(map(repr, self.option.choices))
    elif self.kind is bool:
      words = "True or False"
    elif self._is_tuple():
      words = f"a tuple of integers of {low:g} or more"
    elif self.kind is int:
      words = f"an integer of {low:g} or more"
    elif self.kind is float:
      words = f"a number from {low:g} to {high:g}"
    elif self.kind is str:
      words = "a text in quotes"
    elif typing.get_origin(self.kind) is dict:
      words = "a dictionary with texts for keys"
    else:
      words = f"a {self.kind.__name__}"
    return words + (", or None" if self.optional else "")

  def check(self, value: Any) -> None:
    """Raises ValueError, with what is right, for another value."""
    if not (self.optional and value is None) and not self._fits(value):
      raise ValueError(f"{self.name} must be {self.expected()}, not {value!r}.")

  def _is_tuple(self) -> bool:
    return typing.get_origin(self.kind) in (tuple, Sequence)

  def _fits(self, value: Any) -> bool:
    if self.option.choices:
      return value in self.option.choices
    if self._is_tuple():
      return isinstance(value, (tuple, list)) and all(
        type(x) is int and x >= self.option.low for x in value
      )
    if self.kind in (int, float):
      number = isinstance(value, (int, self.kind)) and not isinstance(value, bool)
      return number and self.option.low <= value <= self.option.high
    if typing.get_origin(self.kind) is dict:
      return isinstance(value, dict) and all(isinstance(key, str) for key in value)
    return isinstance(value, self.kind)


_DECLARED: dict[str, dict[str, Declared]] = {}  # of every owner, by the parameters' names


def options() -> list[Declared]:
  """Every option of what was imported so far, by owner."""
  return [declared for owner in sorted(_DECLARED) for declared in _DECLARED[owner].values()]


def owners() -> set[str]:
  """The names of what `configurable` has made configurable."""
  return set(_DECLARED)


def configurable(target: T) -> T:
  """Makes a class or function configurable by gin, and checks its options at each call.

  Raises:
    ValueError: at a call, with one sentence, for an option out of its range.
  """
  function: Callable[..., Any] = target.__init__ if inspect.isclass(target) else target
  signature = inspect.signature(function)
  declared = _declared(target.__name__, signature)

  @functools.wraps(function)
  def checked(*args: Any, **kwargs: Any) -> Any:
    arguments = signature.bind(*args, **kwargs).arguments
    for name, option in declared.items():
      if name in arguments:
        option.check(arguments[name])
    return function(*args, **kwargs)

  vars(checked)["__signature__"] = signature  # which gin reads
  _DECLARED[target.__name__] = declared
  changed: Any = checked
  if inspect.isclass(target):
    changed = target
    changed.__init__ = checked
  parts = [name for name in signature.parameters if name not in ("self", *declared)]
  return gin.configurable(changed, denylist=parts)


def _declared(owner: str, signature: inspect.Signature) -> dict[str, Declared]:
  found = {}
  for name, parameter in signature.parameters.items():
    if typing.get_origin(parameter.annotation) is typing.Annotated:
      kind, option = typing.get_args(parameter.annotation)
      kinds = typing.get_args(kind) if type(None) in typing.get_args(kind) else (kind,)
      optional = len(kinds) > 1
      kind = kinds[0] if optional else kind
      found[name] = Declared(f"{owner}.{name}", kind, optional, parameter.default, option)
  return found
