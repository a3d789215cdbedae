"""Sphinx: python -m sphinx -b html docs docs/_build."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

import maac_tf  # noqa: E402

project, author = "maac_tf", "the maac_tf authors"
version = release = maac_tf.__version__
extensions = ["myst_parser", "reference"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
smartquotes = False  # -- is the beginning of a flag
html_theme = "furo"
html_title = f"maac_tf {version}"
html_static_path = ["_static"]
html_copy_source = False
