"""README.md, BUILD.md and results/: what they link to exists, and settings can be given again."""

import pathlib
import re

import gin
import pytest

import maac_tf.runs.experiment  # noqa: F401 (whose configurables the settings are of)

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "BUILD.md", *sorted((ROOT / "results").glob("*.md"))]


def anchors(page):
  """Those that GitHub gives to a page's headings, if no two are alike."""
  headings = re.findall(r"(?m)^#+ (.*)$", page.read_text())
  return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page):
  targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
  for target in targets:
    path, _, anchor = target.partition("#")
    linked = page.parent / path if path else page
    if target.startswith(("http://", "https://")):
      continue
    if not linked.exists() or (anchor and anchor not in anchors(linked)):
      yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
  assert list(dead_links(page)) == []


def test_a_dead_link_is_found(tmp_path):
  page = tmp_path / "page.md"
  page.write_text("# A Heading, here\n[a](page.md#a-heading-here) [b](#nowhere) [c](nothing.png)")
  assert list(dead_links(page)) == ["#nowhere", "nothing.png"]


# Names in them are gone: results/README.md, "To repeat a run", says which.
OLD_SETTINGS = {
  "ant_v5/kl_penalty_1-1",
  "half_cheetah/initial_temperature_0.1_seed0",
  "half_cheetah/paper-0",
  "half_cheetah_v5/empirical_errors_episodes_of_250-1",
  "half_cheetah_v5/empirical_errors_episodes_of_250-2",
  "hopper/maximum_likelihood_seed0",
  "hopper/paper-0",
}


def test_the_settings_of_committed_runs_can_be_given_again():
  """Else no one repeats them: a setting that is renamed or removed must be said there."""
  gone = set()
  for path in sorted((ROOT / "results").rglob("operative_config.gin")):
    gin.clear_config()
    try:
      gin.parse_config_file(str(path))
    except ValueError:
      gone.add(str(path.parent.relative_to(ROOT / "results")))
  gin.clear_config()
  assert gone == OLD_SETTINGS
