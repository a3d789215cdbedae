"""Numbers and tables as text."""

from collections.abc import Sequence

MISSING = "–"


def number(value: float) -> str:
  return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown(lines: Sequence[Sequence[str]]) -> str:
  """A table for a document; the first line is its head."""
  head, *rows = lines
  return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def aligned(lines: Sequence[Sequence[str]]) -> str:
  """A table for a terminal."""
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  rows = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines)
  return "\n".join(row.rstrip() for row in rows)
