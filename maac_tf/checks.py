"""What a value must be, said in one line where it is not."""


class ConfigError(Exception):
  """What the user asked for cannot be run; the message is for them."""


def require(condition, message):
  """Raises ValueError with the message unless the condition holds."""
  if not condition:
    raise ValueError(message)


def require_integers(owner: str, least: int, **values):
  """Raises ValueError for a value that is not an integer of `least` or more."""
  for name, value in values.items():
    integer = isinstance(value, int) and not isinstance(value, bool)
    require(
      integer and value >= least,
      f"{owner}.{name} must be an integer of {least} or more, not {value!r}.",
    )


def require_tuples(owner: str, least: int, **values):
  """Raises ValueError for a value that is not a tuple, or list, of integers of `least` or more."""
  for name, value in values.items():
    integers = isinstance(value, (tuple, list)) and all(type(x) is int for x in value)
    require(
      integers and all(x >= least for x in value),
      f"{owner}.{name} must be a tuple of integers of {least} or more, not {value!r}.",
    )


def require_booleans(owner: str, **values):
  """Raises ValueError for a value that is not True or False."""
  for name, value in values.items():
    require(isinstance(value, bool), f"{owner}.{name} must be True or False, not {value!r}.")


def require_numbers(owner: str, least: float, most: float, **values):
  """Raises ValueError for a value that is not a number in [least, most]."""
  for name, value in values.items():
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    require(
      number and least <= value <= most,
      f"{owner}.{name} must be a number from {least:g} to {most:g}, not {value!r}.",
    )
