"""Options: what is declared, what is refused, what gin may not bind."""

from collections.abc import Sequence
from typing import Annotated

import gin
import numpy as np
import pytest

from maac_tf import checks
from maac_tf.checks import ConfigError, Option, configurable, integer, require
from tests.conftest import OPTIONS


class Part:
  pass


@configurable
class Optioned:
  """One option of each kind, and two parts."""

  def __init__(
    self,
    part,
    count: Annotated[int, Option("how many", low=1)] = 2,
    share: Annotated[float, Option("how much", low=0, high=1)] = 0.5,
    switch: Annotated[bool, Option("whether")] = False,
    name: Annotated[str, Option("which", choices=("a", "b"))] = "a",
    text: Annotated[str, Option("what")] = "x",
    sizes: Annotated[Sequence[int], Option("how large", low=1)] = (3, 4),
    times: Annotated[tuple[int, ...], Option("when", low=0)] = (0,),
    limit: Annotated[int | None, Option("up to; None: no limit", low=1)] = None,
    kind: Annotated[Part | None, Option("of which kind")] = None,
    *,
    private: int = 7,
  ):
    self.seen = count, share, switch, name, text, sizes, times, limit, kind
    self.private = private


@configurable
def optioned_function(run_dir, *, seed: Annotated[int, Option("of all", low=0)] = gin.REQUIRED):
  return run_dir, seed


COUNT = "must be an integer of 1 or more, not"
SIZES = "must be a tuple of integers of 1 or more, not"


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [
    ("count", 0, f"{COUNT} 0."),
    ("count", 2.5, f"{COUNT} 2.5."),
    ("count", 2.0, f"{COUNT} 2.0."),
    ("count", "2", f"{COUNT} '2'."),
    ("count", True, f"{COUNT} True."),
    ("count", None, f"{COUNT} None."),
    ("share", -0.1, "must be a number from 0 to 1, not -0.1."),
    ("share", 1.5, "must be a number from 0 to 1, not 1.5."),
    ("share", "x", "must be a number from 0 to 1, not 'x'."),
    ("share", float("nan"), "must be a number from 0 to 1, not nan."),
    ("share", False, "must be a number from 0 to 1, not False."),
    ("switch", "false", "must be True or False, not 'false'."),
    ("switch", 1, "must be True or False, not 1."),
    ("name", "c", "must be 'a' or 'b', not 'c'."),
    ("name", ["a"], "must be 'a' or 'b', not ['a']."),
    ("text", 3, "must be a text in quotes, not 3."),
    ("sizes", 64, f"{SIZES} 64."),
    ("sizes", (0,), f"{SIZES} (0,)."),
    ("sizes", (1.5,), f"{SIZES} (1.5,)."),
    ("sizes", (True,), f"{SIZES} (True,)."),
    ("sizes", "34", f"{SIZES} '34'."),
    ("times", (-1,), "must be a tuple of integers of 0 or more, not (-1,)."),
    ("limit", 0, "must be an integer of 1 or more, or None, not 0."),
    ("kind", 3, "must be a Part, or None, not 3."),
    ("kind", Part, f"must be a Part, or None, not {Part!r}."),
  ],
)
def test_a_wrong_value_is_refused_with_one_line(name, value, message):
  with pytest.raises(ValueError) as error:
    Optioned(0, **{name: value})
  line, _, of_gin = str(error.value).partition("\n")
  assert line == f"Optioned.{name} {message}" and of_gin.startswith("  In call to")


def test_right_values_are_passed_on():
  assert Optioned(0).seen == (2, 0.5, False, "a", "x", (3, 4), (0,), None, None)
  part = Part()
  right = 1, 1, True, "b", "", [5], (), 9, part
  assert Optioned(0, *right).seen == right
  assert Optioned(part=0, share=0).seen[1] == 0  # an integer is a number


def test_gin_binds_options_and_its_values_are_checked():
  gin.parse_config(["Optioned.count = 5", "Optioned.limit = 0"])
  with pytest.raises(ValueError, match="Optioned.limit must be an integer of 1 or more, or None"):
    Optioned(0)
  gin.parse_config(["Optioned.limit = 3", "optioned_function.seed = 4"])
  assert Optioned(0).seen[0] == 5 and Optioned(0, count=6).seen[0] == 6
  assert optioned_function("run") == ("run", 4)
  gin.parse_config("optioned_function.seed = -4")
  with pytest.raises(ValueError, match="optioned_function.seed must be an integer of 0 or more"):
    optioned_function("run")


@pytest.mark.parametrize("binding", ["Optioned.cuont = 3", "Optoned.count = 3"])
def test_a_misspelt_binding_is_refused(binding):
  with pytest.raises(ValueError, match=binding.split(" =")[0].replace(".count", "")):
    gin.parse_config(binding)


@pytest.mark.parametrize(
  "binding",
  [
    "Optioned.part = 3",
    "Optioned.private = 3",
    "optioned_function.run_dir = 'x'",
    "Maac.seed = 3",
    "Trainer.learner = 3",
    "ActorCritic.discount = 0.9",
    "Critic.hidden_units = (3,)",
    "Dynamics.dtype = 'float64'",
    "DynamicsFit.learning_rate = 0.1",
    "Planner.num_iterations = 4",
    "train.run_dir = 'x'",
  ],
)
def test_a_part_cannot_be_bound(binding):
  with pytest.raises(ValueError, match="not configurable|does not|denylist|not in|cannot"):
    gin.parse_config(binding)


def test_what_is_declared_is_listed():
  found = {o.name: o for o in checks.options() if o.name.startswith("Optioned.")}
  assert list(found) == [
    f"Optioned.{n}" for n in "count share switch name text sizes times limit kind".split()
  ]
  limit = found["Optioned.limit"]
  assert (limit.kind, limit.optional, limit.default) == (int, True, None)
  assert (found["Optioned.share"].option.doc, found["Optioned.share"].optional) == (
    "how much",
    False,
  )


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_each_option_of_the_package_says_what_it_is(option):
  """And its own default is one of its values."""
  assert len(option.option.doc) >= 4 and not option.option.doc.endswith(".")
  if option.default is not gin.REQUIRED:
    option.check(option.default)


def test_require():
  require(1, "never said")
  with pytest.raises(ValueError, match="said"):
    require([], "said")


@pytest.mark.parametrize("value", [1000, 1e3, np.int64(1000), np.float32(1000)])
def test_a_whole_number_of_any_kind_is_an_integer(value):
  assert integer("n", value) == 1000 and type(integer("n", value)) is int


@pytest.mark.parametrize("value", ["300", 0.5, float("nan"), float("inf"), True, None])
def test_what_is_no_whole_number_is_named(value):
  with pytest.raises(ConfigError, match=f"n must be an integer, not {value!r}"):
    integer("n", value)


def test_a_notebook_shows_the_line_and_what_is_saved(capsys):
  shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell()
  error = ConfigError("Maac.horizon must be 0 or more, not -1.")
  error.add_note("100 steps are saved.")
  shell.push({"error": error})
  shell.run_cell("raise error")
  shown = capsys.readouterr().out
  assert shown == "ConfigError: Maac.horizon must be 0 or more, not -1.\n100 steps are saved.\n"
