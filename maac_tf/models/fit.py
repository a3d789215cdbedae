"""Maximum-likelihood fit of the ensemble (section 4.3, model learning)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import keras
import tensorflow as tf

from maac_tf.checks import Option, configurable, require
from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.types import Transition
from maac_tf.models.ensemble import Dynamics
from maac_tf.models.likelihood import training_loss, validation_loss
from maac_tf.tasks.symmetries import Symmetry

# Rows per member that the validation loss is measured on, at the most.
MAX_VALIDATION_ROWS = 4096
# With early stopping: epochs without improvement before a fit ends, and epochs at the most.
PATIENCE, MAX_EPOCHS = 5, 200
# Without: of the running average of a member's weights, over training steps.
AVERAGE_DECAY = 0.995
# About so many transitions are the newest ones, of which `recent_fraction` is drawn.
RECENT_TRANSITIONS = 1_000


@configurable
class DynamicsFit(tf.Module):
  """Fits the members of an ensemble to bootstraps of D_env.

  Which slot of the buffer is for validation is drawn once for each member and never changes, so
  that no member is ever validated on what it was trained on, in this fit or an earlier one.

  A fit of a given number of batches ends with the running average of the weights, which is without
  the noise of the last steps, as a lower learning rate would be, and no slower (Polyak and Juditsky
  1992); training itself goes on from the last weights. A fit with early stopping ends with the
  weights of each member's own best epoch.
  """

  def __init__(
    self,
    dynamics: Dynamics,
    buffer: ReplayBuffer,
    seed: int,
    jit_compile: bool = False,
    symmetries: Sequence[Symmetry] = (),
    *,
    max_batches: Annotated[
      int | None,
      Option(
        "of a fit, for each member; it ends after the epoch that reaches them. None: early "
        f"stopping, after {PATIENCE} epochs without improvement on validation data",
        low=1,
      ),
    ] = 250,
    weight_decay: Annotated[
      float,
      Option(
        "the share of each kernel that a fitting step takes away, in units of the learning rate "
        "(Loshchilov and Hutter 2019): against overfitting while data is little",
        low=0,
        high=1_000,
      ),
    ] = 0.1,
    recent_fraction: Annotated[
      float,
      Option(
        f"the share of a bootstrap that is drawn from the {RECENT_TRANSITIONS:,} newest "
        "transitions alone, as Wang and Ross (2019) do for critics. What the current policy does, "
        "and above all what it does wrong, is little of D_env: drawn evenly, models underfit it",
        low=0,
        high=1,
      ),
    ] = 0.5,
    learning_rate: float = 1e-3,
    batch_size: int = 256,
    validation_fraction: float = 0.1,
  ):
    """Makes the optimizer and draws the roles.

    Args:
      dynamics: the ensemble to fit.
      buffer: D_env.
      seed: of the roles.
      jit_compile: compile a training step with XLA.
      symmetries: of the task, for data augmentation. Each has the images of an equal share of a
        batch fitted in the place of the transitions themselves, of which one more share is left.
      learning_rate: of Adam.
      batch_size: transitions for each member.
      validation_fraction: the share of transitions that a member is validated on.

    Raises:
      ValueError: for a value out of range.
    """
    super().__init__()
    require(
      batch_size > len(symmetries),
      f"A batch of {batch_size} transitions is too small for the {len(symmetries)} symmetries of "
      "the task: each has its share of it.",
    )
    self.symmetries = symmetries
    self._dynamics, self._buffer = dynamics, buffer
    self.batch_size, self._max_batches = batch_size, max_batches
    self.recent_fraction = recent_fraction
    self._train_fraction = 1.0 - validation_fraction
    shape = (dynamics.ensemble_size, buffer.capacity)
    roles = tf.random.stateless_uniform(shape, [seed, 0]) < validation_fraction
    roles |= tf.eye(*shape) > 0  # a row at the least, however little data there is
    self._is_validation = tf.Variable(roles, trainable=False)
    self._optimizer = keras.optimizers.AdamW(learning_rate, weight_decay)
    self._optimizer.exclude_from_weight_decay(
      [v for v in dynamics.trainable_variables if v.shape[1] == 1]
    )
    self._optimizer.build(dynamics.trainable_variables)
    self._compiled_step = tf.function(
      self.train_step, autograph=False, jit_compile=jit_compile or None
    )
    early_stopping = max_batches is None
    variables = dynamics.trainable_variables
    # The weights that training goes on from, while the network has their average; else the average.
    self._swapped = [tf.Variable(v, trainable=False) for v in variables if not early_stopping]
    # With early stopping, the best of a fit so far.
    noise = [dynamics.log_var] if dynamics.constant_noise else []
    self._fitted = [*variables, *noise] if early_stopping else []
    self._kept = [tf.Variable(v, trainable=False) for v in self._fitted]

  @property
  def steps(self) -> tf.Tensor:
    """Training steps so far, of all fits."""
    return self._optimizer.iterations

  @tf.function
  def fit(self, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """Trains for `max_batches`, or until no member improved for `PATIENCE` epochs.

    With early stopping, every member ends with the weights of its own best epoch, the start
    included.

    Args:
      seed: [2] int.

    Returns:
      Dict of scalars: `validation_loss` (mean over members, of the weights kept), `train_loss`
      (of the last epoch), `epochs`.
    """
    size = tf.cast(self._buffer.size, tf.int32)
    everything = self._buffer.gather(tf.range(size))
    self._dynamics.set_normalizer(everything)
    if self._dynamics.predicts_end:
      self._dynamics.see_ends(everything.terminal)
    bag_seed, shuffle_seed = tf.unstack(tf.random.split(seed, 2))
    is_validation = self._is_validation[:, :size]
    # Training rows first, each kind from the oldest to the newest.
    last = tf.cast(is_validation, tf.int64) * self._buffer.size
    order = tf.argsort(last - self._buffer.ages(), axis=-1)
    num_validation = tf.reduce_sum(tf.cast(is_validation, tf.int32), -1)  # [E]
    bag = self._bootstrap(order, size - num_validation, bag_seed)
    # The last rows of `order` are the validation rows; evenly spaced ones where they are too many.
    width = tf.minimum(tf.reduce_max(num_validation), MAX_VALIDATION_ROWS)
    places = tf.range(width)[tf.newaxis] * num_validation[:, tf.newaxis] // width
    validation_rows = tf.gather(order, size - num_validation[:, tf.newaxis] + places, batch_dims=1)
    validation = self._buffer.gather(validation_rows)

    early_stopping = self._max_batches is None
    kept_loss = validation_loss(self._dynamics, validation)
    for kept, variable in zip(self._kept, self._fitted, strict=True):
      kept.assign(variable)
    epochs_without = tf.zeros_like(kept_loss, tf.int32)
    train_loss, epoch = 0.0, 0
    batches = tf.shape(bag)[1] // self.batch_size
    max_epochs = MAX_EPOCHS if self._max_batches is None else -(-self._max_batches // batches)
    while epoch < max_epochs and tf.reduce_any(epochs_without < PATIENCE):
      self._swap()
      train_loss = self._epoch(bag, tf.random.fold_in(shuffle_seed, epoch))
      self._swap()
      loss = validation_loss(self._dynamics, validation)
      keep = (loss < kept_loss) | (not early_stopping)
      for kept, variable in zip(self._kept, self._fitted, strict=True):
        kept.assign(tf.where(keep[:, tf.newaxis, tf.newaxis], variable, kept))
      kept_loss = tf.where(keep, loss, kept_loss)
      epochs_without = tf.where(keep, 0, epochs_without + 1)
      epoch += 1
    for kept, variable in zip(self._kept, self._fitted, strict=True):
      variable.assign(kept)
    return {
      "validation_loss": tf.reduce_mean(kept_loss),
      "train_loss": train_loss,
      "epochs": tf.cast(epoch, tf.float32),
    }

  def _swap(self) -> None:
    """Gives the network the trained weights in place of their average, or the average back."""
    if self._swapped:
      for swapped, variable in zip(self._swapped, self._dynamics.trainable_variables, strict=True):
        value = tf.identity(variable)
        variable.assign(swapped)
        swapped.assign(value)

  def _bootstrap(self, order: tf.Tensor, num_train: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Rows [E, whole batches], drawn with replacement from each member's own training rows."""
    rows = tf.cast(tf.cast(tf.shape(order)[1], tf.float32) * self._train_fraction, tf.int32)
    batches = tf.maximum(rows // self.batch_size, 1)
    shape = [order.shape[0], batches * self.batch_size]
    limit = num_train[:, tf.newaxis]
    uniform, kind = tf.unstack(tf.random.stateless_uniform([2, *shape], seed))
    recent = tf.cast(RECENT_TRANSITIONS / tf.shape(order)[1], tf.float32)
    newest = 1.0 - tf.minimum(recent, 1.0) * (1.0 - uniform)
    uniform = tf.where(kind < self.recent_fraction, newest, uniform)
    drawn = tf.cast(uniform * tf.cast(limit, tf.float32), tf.int32)
    return tf.gather(order, tf.minimum(drawn, limit - 1), batch_dims=1)

  def _epoch(self, bag: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """One pass over the bootstraps in a random order; returns the mean training loss."""
    keys = tf.random.stateless_uniform(
      tf.shape(bag)[1:], seed, maxval=None, minval=None, dtype=tf.int32
    )
    bag = tf.gather(bag, tf.argsort(keys), axis=1)
    bag = tf.reshape(bag, [bag.shape[0], -1, self.batch_size])
    batches = tf.shape(bag)[1]
    total = 0.0
    for i in tf.range(batches):
      total += self._compiled_step(self._buffer.gather(bag[:, i]))
    return total / tf.cast(batches, tf.float32)

  def train_step(self, batch: Transition) -> tf.Tensor:
    """One step on a batch of [E, N, ...] transitions; returns its mean NLL."""
    variables = self._dynamics.trainable_variables
    batch = self._with_images(batch)
    with tf.GradientTape() as tape:
      loss, likelihood = training_loss(self._dynamics, batch)
    self._optimizer.apply(tape.gradient(loss, variables), variables)
    if self._swapped:
      step = tf.cast(self._optimizer.iterations, tf.float32)
      decay = tf.minimum(step / (step + 9.0), AVERAGE_DECAY)
      for average, variable in zip(self._swapped, variables, strict=True):
        average.assign(decay * average + (1.0 - decay) * variable)
    return likelihood

  def _with_images(self, batch: Transition) -> Transition:
    """A batch of which each symmetry has replaced an equal share by its images."""
    shares, rows = len(self.symmetries) + 1, batch.reward.shape[1]
    bounds = [i * rows // shares for i in range(shares + 1)]
    parts = [
      tf.nest.map_structure(lambda x, a=a, b=b: x[:, a:b], batch) for a, b in pairwise(bounds)
    ]
    parts[1:] = [s.image(part) for s, part in zip(self.symmetries, parts[1:], strict=True)]
    return tf.nest.map_structure(lambda *x: tf.concat(x, 1), *parts)
