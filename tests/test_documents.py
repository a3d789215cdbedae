"""What README.md, BUILD.md, docs/ and results/ link to exists."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "BUILD.md", ROOT / "results" / "README.md"]
PAGES += sorted((ROOT / "docs").rglob("*.md"))


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
