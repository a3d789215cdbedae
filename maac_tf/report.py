"""Writes the tables and figures of README.md and docs/ from results/: `python -m maac_tf.report`.

`results/report.toml` declares them; `results/README.md` says how a run is added.
"""

import os
import sys

from absl import app, flags

from maac_tf.runs import command_line, report_tables

_CHECK = flags.DEFINE_bool(
  "check", False, "Write nothing; exit with 1 where a table is not what results/ give."
)
_ROOT = command_line.define_path(
  "root", ".", "The folder of a checkout of the project, with results/report.toml."
)


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  declared = os.path.join(_ROOT.value, "results", "report.toml")
  if not os.path.isfile(declared):
    print(
      f"Error: there is no {declared!r}: start this in a checkout of the project, or name its "
      "folder with --root.",
      file=sys.stderr,
    )
    return 1
  try:
    documents = report_tables.documents(_ROOT.value)
    changed = {path: new for path, (old, new) in documents.items() if old != new}
    if _CHECK.value:
      for path in changed:
        print(f"{path}: its tables are not what results/ give: run python -m maac_tf.report")
      return int(bool(changed))
    for path, text in changed.items():
      with open(os.path.join(_ROOT.value, path), "w") as file:
        file.write(text)
    for path in [*changed, *report_tables.draw_figures(_ROOT.value)]:
      print(f"Wrote {path}")
  except (OSError, ValueError) as error:
    print(f"Error: {error}", file=sys.stderr)
    return 1
  return 0


if __name__ == "__main__":
  app.run(main)
