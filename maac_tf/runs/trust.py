"""What a run of somebody else may do: give values. It runs no code, and no file of it is a link.

A gin config can import modules, include files, and call what a program has registered; this package
adds environments, which a name of a module makes. The caller may vouch for that: for all of it, or
for a line, by giving the same one by hand.
"""

import contextlib
import os
import stat
import tokenize
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from gin import config_parser

from maac_tf import checks
from maac_tf.checks import ConfigError

HINT = "if it is yours, give the same --env or --gin_file again, or --trust (trust=True in Python)"


def check_config(path: str, text: str, given: Iterable[str] = ()) -> None:
  """Refuses a config that names code.

  Args:
    path: of its file, for the message.
    text: what it says.
    given: gin texts of the caller's own; a line of theirs is allowed.

  Raises:
    ConfigError: which names the first such line.
    SyntaxError, tokenize.TokenError: for what is no gin text.
  """
  vouched = set()
  for own in given:  # what is wrong with it is said when it is loaded
    with contextlib.suppress(SyntaxError, ValueError, tokenize.TokenError):
      vouched |= {code for _, code in _code_in(own)}
  for line, code in _code_in(text):
    if code not in vouched or code.startswith("include "):  # seen from there, of another file
      raise ConfigError(f"{path!r}, line {line}: {code!r} would run code: {HINT}.")


def check_environment(source: str, name: str) -> None:
  """Refuses an environment of a module, as a policy's file says it; raises as `check_config`."""
  if ":" in name:
    raise ConfigError(f"{source!r} is of {name!r}, which would run code: {HINT}.")


def names_code(text: str) -> bool:
  """Whether `check_config` would refuse this gin text."""
  return any(True for _ in _code_in(text))


def check_folder(path: str) -> None:
  """Refuses a folder with a link, or anything else that is no plain file or folder, in or below it.

  The folder itself may be a link. One that is not there has none.

  Raises:
    ConfigError: which names the first.
  """
  for folder, folders, files in os.walk(path):
    for name in sorted([*folders, *files]):
      file = os.path.join(folder, name)
      try:
        mode = os.lstat(file).st_mode
      except OSError:  # a run that is under way has replaced it
        continue
      if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        what = "a link, which may lead elsewhere" if stat.S_ISLNK(mode) else "no plain file"
        raise ConfigError(f"{file!r} is {what}: put the file itself there, or remove it.")


class _Name(NamedTuple):
  """In a value, what stands for another: @NAME, @NAME() or %NAME."""

  kind: str
  name: str

  def __repr__(self) -> str:
    return self.kind + self.name


class _Names(config_parser.ParserDelegate):
  """Leaves them names: nothing is looked up."""

  def configurable_reference(self, name: str, evaluate: bool) -> _Name:
    del evaluate
    return _Name("@", name)

  def macro(self, name: str) -> _Name:
    return _Name("%", name)


def _code_in(text: str) -> Iterator[tuple[int, str]]:
  """The statements that would run code, each with its line's number, in one spelling."""
  statements = list(config_parser.ConfigParser(text, _Names()))
  bindings = [s for s in statements if isinstance(s, config_parser.BindingStatement)]
  everywhere = [text for s in bindings for text in _texts(s.value)]
  for statement in statements:
    line = statement.location.line_num
    if isinstance(statement, config_parser.ImportStatement):
      yield line, statement.format()
    elif isinstance(statement, config_parser.IncludeStatement):
      yield line, f"include {statement.filename!r}"
    elif isinstance(statement, config_parser.BindingStatement):
      option = f"{statement.selector.rpartition('.')[2]}.{statement.arg_name}"
      names = [x for x in _leaves(statement.value) if isinstance(x, _Name)]
      own = _texts(statement.value)
      if any(name.kind == "%" for name in names):
        own = everywhere  # whatever the macros are
      called = {name.name for name in names if name.kind == "@"}
      if (
        (option == "train.task" and any(":" in text for text in own))
        or (option == "make_task.env_kwargs" and own)  # such as the path of a file
        or not called <= checks.owners()
      ):
        yield line, f"{option.strip('.')} = {statement.value!r}"


def _leaves(value: Any) -> Iterator[Any]:
  """What a value is made of; of a dictionary not the keys."""
  if isinstance(value, dict):
    value = tuple(value.values())
  if isinstance(value, (tuple, list)) and not isinstance(value, _Name):
    for part in value:
      yield from _leaves(part)
  else:
    yield value


def _texts(value: Any) -> list[str]:
  return [leaf for leaf in _leaves(value) if isinstance(leaf, str)]
