"""Symmetries of robots: what is true of a transition is true of its images, too.

Left and right of a walker are alike, and an ant is the same in a mirror and whichever of its legs
is called the first. Of every transition that was seen, models learn the images (data augmentation;
for replayed transitions, Lin et al. 2020, "Invariant transform experience replay").
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from maac_tf.data.types import Transition
from maac_tf.tasks.actions import ActionBox
from maac_tf.tasks.coordinates import quaternion_product

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

  def then(self, other: "Symmetry") -> "Symmetry":
    """The image of the image."""
    return Symmetry(
      lambda x: other.observation(self.observation(x)), lambda x: other.action(self.action(x))
    )


def signed_permutation(order: Sequence[int], negated: Sequence[int] = ()) -> Image:
  """A function of [..., n] that takes its numbers in `order`, then negates those at `negated`."""
  signs = [-1.0 if i in negated else 1.0 for i in range(len(order))]
  return lambda x: tf.gather(x, order, axis=-1) * tf.constant(signs, x.dtype)


def walker_symmetries() -> tuple[Symmetry, ...]:
  """Of Gymnasium's Walker2d-v5, 17 observations: its legs, the right one first, are alike."""
  order = [0, 1, 5, 6, 7, 2, 3, 4, 8, 9, 10, 14, 15, 16, 11, 12, 13]
  return (Symmetry(signed_permutation(order), signed_permutation([3, 4, 5, 0, 1, 2])),)


def ant_symmetries() -> tuple[Symmetry, ...]:
  """Of Gymnasium's Ant-v5, 27 observations: seven, and with the ant as it is eight.

  In the mirror left is right: y is -y. And the leg that is called the first may be any of the four,
  as the torso is a ball: its own axes are then others, by quarter turns about the vertical one,
  and the ant, the world and its x axis are as they were.
  """
  half = 0.5**0.5

  def symmetry(legs: Image, orientation: Image, velocity: Image, rotation: Image) -> Symmetry:
    def observation(x: tf.Tensor) -> tf.Tensor:
      z, torso, angles, v, w, speeds = tf.split(x, [1, 4, 8, 3, 3, 8], -1)
      return tf.concat(
        [z, orientation(torso), legs(angles), velocity(v), rotation(w), legs(speeds)], -1
      )

    def action(x: tf.Tensor) -> tf.Tensor:  # which begins with the fourth leg
      return tf.roll(legs(tf.roll(x, -2, -1)), 2, -1)

    return Symmetry(observation, action)

  # Of the legs, front left, back left, back right, front right: hip and ankle each.
  mirror = symmetry(
    legs=signed_permutation([6, 7, 4, 5, 2, 3, 0, 1], [0, 2, 4, 6]),
    orientation=signed_permutation([0, 1, 2, 3], [1, 3]),
    velocity=signed_permutation([0, 1, 2], [1]),
    rotation=signed_permutation([0, 1, 2], [0, 2]),
  )
  turn = symmetry(
    legs=signed_permutation([2, 3, 4, 5, 6, 7, 0, 1], [1, 5]),
    orientation=lambda q: quaternion_product(q, tf.constant([half, 0.0, 0.0, half], q.dtype)),
    velocity=lambda v: v,
    rotation=signed_permutation([1, 0, 2], [1]),
  )
  turns = turn, turn.then(turn), turn.then(turn).then(turn)
  return (*turns, mirror, *(mirror.then(t) for t in turns))
