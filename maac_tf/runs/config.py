"""gin files and bindings, with every mistake as one clear line."""

import contextlib
import difflib
import inspect
import io
import os
import re
import sys
import tokenize
from collections.abc import Iterable, Sequence

import gin
import tensorflow as tf

from maac_tf.checks import ConfigError

# A finished run may be made longer, and looked at more often: these may change on resuming. Not
# the number of episodes: the best evaluation is the best of equals.
MAY_CHANGE = ("train.iterations", "Trainer.eval_every")


_USER_ERRORS = (
  ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, SyntaxError, TypeError,
  ValueError, tokenize.TokenError, tf.errors.ResourceExhaustedError,
)  # fmt: skip


@contextlib.contextmanager
def user_errors():
  """Turns the errors of a wrong value into a ConfigError of one line."""
  try:
    yield
  except _USER_ERRORS as error:
    if isinstance(error, SyntaxError):
      text = " ".join(f"{error.msg} {error.text or ''}".split())
      raise ConfigError(f"{text} (text needs quotes; it is True and False)") from error
    if isinstance(error, tokenize.TokenError):
      raise ConfigError(f"A binding has an open bracket or quote: {error.args[0]}.") from error
    macro = re.search(r"No bindings specified for '(\w+)/gin\.macro'", str(error))
    if macro:
      raise ConfigError(
        f"No file that was given sets the macro {macro[1]}: before gin/paper.gin, give a task "
        "file, such as --gin_file=gin/hopper.gin."
      ) from error
    # gin adds lines on where the value came from.
    lines = [line.strip() for line in str(error).strip().splitlines()] or [repr(error)]
    where = [line for line in lines[1:] if line.startswith("In ")]
    where = [re.sub(r"In call to configurable '(.*?)'.*", r"in \1", line) for line in where]
    raise ConfigError(" ".join([lines[0], *(f"({place})" for place in where)])) from error


def load(gin_files: Sequence[str], gin_params: Sequence[str] = ()) -> set[str]:
  """Parses gin files, then single bindings, later ones overriding earlier ones.

  A file may include others by their path from its own folder. What was loaded before is forgotten.
  Warns of a file that could as well be left out, and of macros that nothing uses.

  Returns:
    The names of the parameters that the single bindings, and the last file after a first, set.

  Raises:
    ConfigError: for a missing file, a task file after others, or a binding that names nothing.
  """
  for path in gin_files:
    if not os.path.isfile(path):
      folder = os.path.dirname(path) or "."
      files = [f for f in os.listdir(folder) if f.endswith(".gin")] if os.path.isdir(folder) else []
      nearest = difflib.get_close_matches(os.path.basename(path), files, n=1, cutoff=0)
      hint = f" Did you mean {os.path.join(folder, nearest[0])!r}?" if nearest else ""
      raise ConfigError(f"There is no gin file {path!r}.{hint}")
  with user_errors():
    _warn_of_idle_files(gin_files)
    texts = _parse(gin_files, gin_params)
    _check_macros(texts, gin_params)
    gin.finalize()
  return parameters([*gin_params, *(texts[path] for path in gin_files[1:][-1:])])


def parameters(texts: Iterable[str]) -> set[str]:
  """The names of the parameters, and macros, that these gin texts set."""
  return set(re.findall(r"(?m)^\s*(?:\w+\.)*?(\w+(?:\.\w+)?)\s*=", "\n".join(texts)))


def _parse(gin_files, gin_params=()) -> dict[str, str]:
  """Returns the texts of all files, included ones too, by path."""
  gin.clear_config()
  texts = {}
  for i, path in enumerate(gin_files):
    files = _parse_file(path)
    if i and "maac.gin" in map(os.path.basename, files):
      raise ConfigError(f"{path} includes maac.gin, which sets everything anew: give it first.")
    texts |= files
  gin.parse_config(list(gin_params))
  return texts


def _parse_file(path):
  """By itself, gin looks for what a file includes in the working folder, whoever asks for it."""
  with open(path) as file:
    text = file.read()
  texts, lines = {path: text}, 0
  for i, part in enumerate(re.split(r"(?m)^include +['\"](.*)['\"].*$", text)):
    if i % 2:
      texts |= _parse_file(os.path.join(os.path.dirname(path), part))
    else:
      part_of_file = io.StringIO("\n" * lines + part)
      part_of_file.name = path  # for gin's messages
      gin.parse_config(part_of_file)
      lines += part.count("\n")
  return texts


def _warn_of_idle_files(gin_files):
  """Of several, those without which every value would be the same."""

  def values(files):
    _parse(files)
    return gin.config_str()

  kept = list(gin_files)
  for path in gin_files if len(kept) > 1 else ():
    others = [f for f in kept if f != path]
    if values(others) == values(kept):
      kept = others
      print(
        f"Warning: {path} has no effect: the other files have, or set after it, the same values.",
        file=sys.stderr,
      )


def _check_macros(texts, gin_params):
  """To gin, "horizon = 3" is a macro, and training would pass it over.

  Those of maac.gin wait for gin/paper.gin, as do those of a run's config, which is one text.
  """
  everything = "\n".join([*texts.values(), *gin_params])
  scoped = re.search(r"(?m)^\s*(\w[\w.]*/[\w./]+)\s*=", everything)
  if scoped:
    raise ConfigError(f"{scoped[1]}: gin's scopes mean nothing here: leave out what is before /.")
  shipped = [text for path, text in texts.items() if os.path.basename(path) == "maac.gin"]
  waiting = parameters(shipped or texts.values())
  bindings = gin.config_str()
  for name in re.findall(r"^(\w+) = ", bindings, re.MULTILINE):
    if f"%{name}" in everything or (name.startswith("paper_") and name in waiting):
      continue
    owners = re.findall(rf"^(\w+\.{name}) = ", bindings, re.MULTILINE)
    message = f"write {' or '.join(owners) or f'OWNER.{name}, as in gin/maac.gin'}."
    if not any(re.search(rf"(?m)^{name} *=", text) for text in texts.values()):
      raise ConfigError(f"{name!r} is no parameter's name: {message}")
    print(f"Warning: {name} has no effect: it is no parameter's name: {message}", file=sys.stderr)


def without_effect(overridden: set[str], unused: dict[str, str]) -> dict[str, str]:
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


def _is_default(binding):
  """Whether "owner.parameter = value" gives the parameter its default."""
  name, value = binding.split(" = ", 1)
  owner, _, parameter = name.rpartition(".")
  if not owner:  # a macro
    return False
  try:
    default = inspect.signature(gin.get_configurable(owner)).parameters[parameter].default
  except (KeyError, ValueError):
    return False
  return repr(default) == value


def differences(saved: str, current: str) -> list[str]:
  """Bindings that differ between two operative configs, as diff lines; MAY_CHANGE excepted.

  A parameter that the saved one does not know is no difference at its default: a run of an earlier
  version goes on. So the default of a new parameter must leave everything as it was.
  """
  # And a macro that is the value of one, and of nothing else.
  users = re.findall(r"(?m)^(\S+) = .*%(\w+)", saved + "\n" + current)
  others = {macro for name, macro in users if name not in MAY_CHANGE}
  may_change = {*MAY_CHANGE, *(macro for _, macro in users if macro not in others)}

  def bindings(text):
    text = re.sub(r"\s*\\?\n[ \t]+", " ", text)  # gin indents the lines that continue a binding
    return sorted(
      line
      for line in text.splitlines()
      if " = " in line and line[0] != "#" and line.split(" = ")[0] not in may_change
    )

  known = {line.split(" = ")[0] for line in bindings(saved)}
  current = [
    line for line in bindings(current) if line.split(" = ")[0] in known or not _is_default(line)
  ]
  delta = difflib.ndiff(bindings(saved), current)
  return [line for line in delta if line[0] in "+-"]
