"""Text files that say themselves whether they are as they were written."""

import re
import zlib

_SEAL = "# CRC-32 of the lines above: "


def seal(text: str) -> str:
  """The text with a last line, a comment to gin, that has its checksum."""
  return f"{text}{_SEAL}{zlib.crc32(text.encode()):08x}\n"


def is_whole(text: str) -> bool:
  """Whether it is one that was sealed, and as it was then."""
  found = re.fullmatch(rf"(?s)(.*){_SEAL}[0-9a-f]+\n", text)
  return found is not None and seal(found[1]) == text
