"""Symmetries of robots: what is true of a transition is true of its images, too.

Left and right of a walker are alike. Of every transition that was seen, models learn the images
(data augmentation; for replayed transitions, Lin et al. 2020, "Invariant transform experience
replay").
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from maac_tf.data.types import Transition
from maac_tf.tasks.actions import ActionBox

Image = Callable[[tf.Tensor], tf.Tensor]  # of the same shape


class Symmetry(NamedTuple):
  """The image of a state and of an action.

  From the image of a state, the image of an action leads to the image of the next state, with the
  same reward and the same end.
  """

  observation: Image  # [..., S] -> [..., S]
  action: Image  # [..., A] -> [..., A], in the environment's units

  def image(self, transition: Transition) -> Transition:
    """Of [..., S] and [..., A] transitions."""
    return transition._replace(
      observation=self.observation(transition.observation),
      action=self.action(transition.action),
      next_observation=self.observation(transition.next_observation),
    )

  def scaled(self, box: ActionBox) -> "Symmetry":
    """The same for actions of the networks, in [-1, 1]."""
    return self._replace(action=lambda a: box.fractions(self.action(box.units(a))))


def signed_permutation(order: Sequence[int], negated: Sequence[int] = ()) -> Image:
  """A function of [..., n] that takes its numbers in `order`, then negates those at `negated`."""
  signs = [-1.0 if i in negated else 1.0 for i in range(len(order))]
  return lambda x: tf.gather(x, order, axis=-1) * tf.constant(signs, x.dtype)
