"""Where gin files are, and what they say: those of the user, and those that the package brings.

A path that begins with gin/ means a file of the package wherever the working folder has none of
that name. A checkout has these files in its folder gin/, an installed package in maac_tf/gin/.
"""

import difflib
import glob
import os
import re

import maac_tf
from maac_tf.checks import ConfigError

INCLUDE = r"(?m)^include +['\"](.*)['\"].*$"  # a line of a gin file


def gin_root() -> str:
  """The folder that holds the package's gin/."""
  package = os.path.dirname(os.path.abspath(maac_tf.__file__))
  installed = os.path.isfile(os.path.join(package, "gin", "maac.gin"))
  return package if installed else os.path.dirname(package)


def find_gin_file(path: str, folder: str = "") -> str:
  """The file that `path` means, seen from `folder`; else the package's own.

  Raises:
    ConfigError: if there is none.
  """
  candidates = [os.path.join(folder, path)]
  if os.path.normpath(path).split(os.sep)[0] == "gin":
    candidates.append(os.path.join(gin_root(), path))
  for candidate in candidates:
    if os.path.isfile(candidate):
      return candidate
  beside = glob.glob(os.path.join(glob.escape(os.path.dirname(candidates[0])), "*.gin"))
  packaged = glob.glob(os.path.join(glob.escape(gin_root()), "gin", "**", "*.gin"), recursive=True)
  known = beside + [os.path.relpath(file, gin_root()) for file in packaged]
  nearest = difflib.get_close_matches(candidates[0], known, n=1)
  hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
  raise ConfigError(f"There is no gin file {candidates[0]!r}.{hint}")


def read_gin_file(path: str) -> str:
  """Its text, whatever its line ends and whether or not an editor put a byte order mark first.

  Raises:
    ConfigError: for one that is no UTF-8 text.
  """
  try:
    with open(path, encoding="utf-8-sig") as file:
      text = file.read()
  except UnicodeDecodeError:
    text = "\0"
  if "\0" in text:  # UTF-16 without a mark is UTF-8, with zeros
    raise ConfigError(f"{path!r} is not UTF-8 text: save it as UTF-8 in your editor.")
  return text


def read_with_included(path: str, folder: str = "") -> list[str]:
  """The texts of the file that `path` means, seen from `folder`, and of all that it includes.

  Raises:
    ConfigError: as `find_gin_file` and `read_gin_file`.
  """
  path = find_gin_file(path, folder)
  text = read_gin_file(path)
  included = [read_with_included(p, os.path.dirname(path)) for p in re.findall(INCLUDE, text)]
  return [text, *(t for texts in included for t in texts)]
