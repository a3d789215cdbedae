"""gin files and bindings, with every mistake as one clear line."""

import contextlib
import difflib
import inspect
import io
import os
import re
import sys
import threading
import tokenize
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import gin
import gymnasium as gym
import numpy as np
import tensorflow as tf

from maac_tf import checks
from maac_tf.checks import ConfigError
from maac_tf.runs.gin_files import INCLUDE, find_gin_file, read_gin_file

# A finished run may be made longer, and looked at more often, and the last option is of resuming
# itself: these may change on resuming. Not the number of episodes: the best evaluation is the best
# of equals.
MAY_CHANGE = ("train.iterations", "Trainer.eval_every", "Trainer.replay_on_resume")


_USER_ERRORS = (
  ArithmeticError, AttributeError, ImportError, LookupError, OSError, RuntimeError, SyntaxError,
  TypeError, ValueError, gym.error.Error, tokenize.TokenError, tf.errors.ResourceExhaustedError,
)  # fmt: skip


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
  """Turns the errors of a wrong value into a ConfigError of one line."""
  try:
    yield
  except _USER_ERRORS as error:
    if isinstance(error, SyntaxError):
      raise ConfigError(_unreadable(error)) from error
    if isinstance(error, tokenize.TokenError):
      raise ConfigError(f"A binding has an open bracket or quote: {error.args[0]}.") from error
    # gin adds lines on where the value came from.
    lines = [line.strip() for line in str(error).strip().splitlines()] or [repr(error)]
    where = [line for line in lines[1:] if line.startswith("In ")]
    where = [re.sub(r"In call to configurable '(.*?)'.*", r"in \1", line) for line in where]
    lines[0] += _nearest_option(lines[0])
    raise ConfigError(" ".join([lines[0], *(f"({place})" for place in where)])) from error


def _unreadable(error: SyntaxError) -> str:
  """What to write in place of a binding that gin cannot read."""
  line = (error.text or "").strip()
  file = f"{error.filename}, line {error.lineno}: " if error.filename else ""
  binding = re.fullmatch(r"(\w+\.\w+)\s*=\s*(.*?)(?:\s*#.*)?", line)
  for option in checks.options():
    if binding and option.name == binding[1]:
      is_class = inspect.isclass(option.kind) and option.kind.__module__ != "builtins"
      hint = "write @NAME()" if is_class else "text needs quotes, ' or \""
      value = binding[2] or "nothing"
      return f"{file}{option.name} must be {option.expected()}, not {value} ({hint})."
  message = re.sub(r"malformed node.*>", "", error.msg)  # of no use to who wrote the binding
  text = " ".join(f"{message} {line}".split())
  return f"{file}{text} (text needs quotes, ' or \"; it is True and False)"


def _nearest_option(message: str) -> str:
  """What may have been meant where gin's message is of a name that there is not."""
  wrong = re.match(r"Configurable '(\w+)' doesn't have a parameter named '(\w+)'", message)
  if not wrong:
    return ""
  names = [option.name for option in checks.options()]
  nearest = difflib.get_close_matches(".".join(wrong.groups()), names, n=1, cutoff=0.8)
  hint = f" Did you mean {nearest[0]}?" if nearest else ""
  return f"{hint} (CHANGELOG.md has the options of earlier versions.)"


# All that gin knows of one config.
_GIN_STATE = "_CONFIG", "_OPERATIVE_CONFIG", "_SINGLETONS", "_IMPORTS", "_CONFIG_IS_LOCKED"


class Bindings:
  """A config of one object: gin's own while it is entered, aside otherwise.

  gin has one config in a process, and no public way to put it aside.
  """

  _lock = threading.RLock()  # one is entered at a time, whatever the thread

  def __init__(self) -> None:
    self._aside: dict[str, Any] = {n: type(getattr(gin.config, n))() for n in _GIN_STATE}

  def __enter__(self) -> None:
    self._lock.acquire()
    self._swap()

  def __exit__(self, *_: object) -> None:
    self._swap()
    self._lock.release()

  def _swap(self) -> None:
    for name, aside in self._aside.items():
      self._aside[name] = getattr(gin.config, name)
      setattr(gin.config, name, aside)


def load(gin_files: Sequence[str], gin_params: Sequence[str] = ()) -> set[str]:
  """Parses gin files, then single bindings, later ones overriding earlier ones.

  A file may include others by their path from its own folder. What was loaded before is forgotten.
  Warns of a file that could as well be left out, and of macros that nothing uses.

  Returns:
    The names of the parameters that the single bindings, and the last file after a first, set.

  Raises:
    ConfigError: for a missing file, a task file after others, or a binding that names nothing.
  """
  gin_files = [find_gin_file(path) for path in gin_files]
  with user_errors():
    _warn_of_idle_files(gin_files)
    texts = _parse(gin_files, gin_params)
    _check_macros(texts, gin_params)
    _check_values()
    gin.finalize()
  return parameters([*gin_params, *(texts[path] for path in gin_files[1:][-1:])])


def _check_values() -> None:
  """Of all options that are bound, also of parts that no run will build."""
  for option in checks.options():
    try:
      value = gin.query_parameter(option.name)
    except ValueError:  # it is not bound
      continue
    if not isinstance(value, gin.config.ConfigurableReference):  # a macro, or an object
      option.check(value)


def unknown(text: str) -> set[str]:
  """Options that this gin text sets and the code does not know."""
  known = {option.name for option in checks.options()}
  return {name for name in parameters([text]) if "." in name} - known


def parameters(texts: Iterable[str]) -> set[str]:
  """The names of the parameters, and macros, that these gin texts set."""
  return set(re.findall(r"(?m)^\s*(?:\w+\.)*?(\w+(?:\.\w+)?)\s*=", "\n".join(texts)))


def _parse(gin_files: Iterable[str], gin_params: Iterable[str] = ()) -> dict[str, str]:
  """Returns the texts of all files, included ones too, by path."""
  gin.clear_config()
  texts: dict[str, str] = {}
  for i, path in enumerate(gin_files):
    files = _parse_file(path)
    if i and "train.task" in parameters(files.values()):
      raise ConfigError(f"{path} sets the task: give it first, and what changes it after.")
    texts |= files
  for binding in gin_params:
    try:
      gin.parse_config(binding)
    except SyntaxError as error:
      error.text = binding  # gin may give a part of it, or none
      raise
  return texts


def _parse_file(path: str) -> dict[str, str]:
  """By itself, gin looks for what a file includes in the working folder, whoever asks for it."""
  text = read_gin_file(path)
  texts, lines = {path: text}, 0
  for i, part in enumerate(re.split(INCLUDE, text)):
    if i % 2:
      texts |= _parse_file(find_gin_file(part, os.path.dirname(path)))
    else:
      part_of_file = io.StringIO("\n" * lines + part)
      part_of_file.name = path  # for gin's messages
      gin.parse_config(part_of_file)
      lines += part.count("\n")
  return texts


def value(name: str) -> Any:
  """The value of an option that is in force."""
  owner, _, parameter = name.partition(".")
  (default,) = (option.default for option in checks.options() if option.name == name)
  return gin.get_bindings(owner).get(parameter, default)


def binding(name: str, value: Any) -> str:
  """The binding that gives an option this value of Python; text that begins with @ is gin's."""
  if isinstance(value, np.generic):
    value = value.item()
  is_reference = isinstance(value, str) and value.startswith("@")
  return f"{name} = {value if is_reference else repr(value)}"


def bind(name: str, value: Any) -> None:
  """Gives an option of what was loaded another value."""
  with gin.unlock_config():
    gin.bind_parameter(name, value)


def text() -> str:
  """All that was loaded, as a gin file."""
  return gin.config_str(max_line_length=100_000)


def values() -> dict[str, str]:
  """Every option's value as it is in force, and every macro's, as a gin file would say it."""
  defaults = {o.name: repr(o.default) for o in checks.options()}
  return defaults | dict(re.findall(r"(?m)^(\w+(?:\.\w+)?) = (.*)$", text()))


def operative() -> str:
  """All options that were in force, as a gin file: of what was made, and of the run itself."""
  operative = gin.operative_config_str()
  if "\ntrain." not in operative:
    own = [f"{n} = {v}" for n, v in sorted(values().items()) if n.startswith("train.")]
    operative += "\n".join(["", "# Parameters for train:", f"# {'=' * 78}", *own, ""])
  return operative


def _warn_of_idle_files(gin_files: Sequence[str]) -> None:
  """Of several, those without which every value would be the same."""

  def values_of(files: Sequence[str]) -> dict[str, str]:
    _parse(files)
    return values()

  kept = list(gin_files)
  for path in gin_files if len(kept) > 1 else ():
    others = [f for f in kept if f != path]
    if values_of(others) == values_of(kept):
      kept = others
      print(
        f"Warning: {path} has no effect: the other files have, or set after it, the same values.",
        file=sys.stderr,
      )


def _check_macros(texts: dict[str, str], gin_params: Sequence[str]) -> None:
  """To gin, "horizon = 3" is a macro, and training would pass it over."""
  everything = "\n".join([*texts.values(), *gin_params])
  scoped = re.search(r"(?m)^\s*(\w[\w.]*/[\w./]+)\s*=", everything)
  if scoped:
    raise ConfigError(f"{scoped[1]}: gin's scopes mean nothing here: leave out what is before /.")
  names = list(values())
  for name in [n for n in names if "." not in n and f"%{n}" not in everything]:
    owners = [n for n in names if n.endswith(f".{name}")]
    message = f"write {' or '.join(owners) or f'OWNER.{name}, as in gin/maac.gin'}."
    if not any(re.search(rf"(?m)^{name} *=", text) for text in texts.values()):
      raise ConfigError(f"{name!r} is no option's name: {message}")
    print(f"Warning: {name} has no effect: it is no option's name: {message}", file=sys.stderr)


def without_effect(overridden: Collection[str], unused: dict[str, str]) -> dict[str, str]:
  """Which of the overridden parameters and macros do nothing, each with the reason.

  Args:
    overridden: what `load` returned.
    unused: names of parameters, or of all parameters of a class, each with a reason.
  """
  found = {}
  for name in sorted(overridden):
    owner, _, parameter = name.partition(".")
    if name in unused or owner in unused:
      found[name] = unused.get(name) or unused[owner]
    elif not parameter and f"%{name}" not in gin.config_str():
      found[name] = "no file that was given uses it"
  return found


def differences(saved: str, current: str) -> list[str]:
  """Bindings that differ between two operative configs, as diff lines; MAY_CHANGE excepted.

  They hold the defaults, too: one that is another now, or new, is a difference.
  """
  # And a macro that is the value of one, and of nothing else.
  users = re.findall(r"(?m)^(\S+) = .*%(\w+)", saved + "\n" + current)
  others = {macro for name, macro in users if name not in MAY_CHANGE}
  may_change = {*MAY_CHANGE, *(macro for _, macro in users if macro not in others)}

  def bindings(text: str) -> list[str]:
    text = re.sub(r"\s*\\?\n[ \t]+", " ", text)  # gin indents the lines that continue a binding
    return sorted(
      line
      for line in text.splitlines()
      if " = " in line and line[0] != "#" and line.split(" = ")[0] not in may_change
    )

  delta = difflib.ndiff(bindings(saved), bindings(current))
  return [line for line in delta if line[0] in "+-"]
