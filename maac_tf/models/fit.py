"""Maximum-likelihood fit of the ensemble (section 4.3, model learning)."""

import functools
import math
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any

import keras
import tensorflow as tf

from maac_tf import replicas
from maac_tf.checks import Option, configurable, require
from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.statistics import RunningStatistics
from maac_tf.data.types import Transition
from maac_tf.models.bootstrap import RECENT_TRANSITIONS, Bootstrap, in_batches
from maac_tf.models.ensemble import Dynamics
from maac_tf.models.likelihood import training_loss, validation_loss
from maac_tf.networks import guard
from maac_tf.tasks.symmetries import Symmetry

# With early stopping: epochs without improvement before a fit ends, and epochs at the most.
PATIENCE, MAX_EPOCHS = 5, 200
# Without: of the running average of a member's weights, over training steps.
AVERAGE_DECAY = 0.995
# A checkpoint can be between two calls.
MIN_BATCHES_PER_CALL, SECONDS_PER_CALL = 100, 8.0


@configurable
class DynamicsFit(tf.Module):
  """Fits the members of an ensemble to bootstraps of D_env.

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
        "of a fit, for each member; it ends after the epoch that reaches them, and an epoch has no "
        f"more. None: early stopping, after {PATIENCE} epochs without improvement on validation "
        "data",
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

    Raises:
      ValueError: for a value out of range.
    """
    super().__init__()
    require(
      batch_size > len(symmetries),
      f"A batch of {batch_size} transitions is too small for the {len(symmetries)} symmetries of "
      "the task: each has its share of it.",
    )
    replicas.require_shares("The batch of a fitting step", batch_size)
    self.symmetries = symmetries
    self._dynamics, self._buffer = dynamics, buffer
    self.batch_size, self._max_batches = batch_size, max_batches
    sizes = dynamics.ensemble_size, batch_size
    self.bootstrap = Bootstrap(buffer, *sizes, max_batches, recent_fraction, seed)
    self.statistics = RunningStatistics(buffer, dynamics.columns)
    self._optimizer = keras.optimizers.AdamW(learning_rate, weight_decay)
    self._optimizer.exclude_from_weight_decay(
      [v for v in dynamics.trainable_variables if v.shape[1] == 1]
    )
    self._optimizer.build(dynamics.trainable_variables)
    step = replicas.on_each(tf.distribute.get_strategy(), self.train_step)
    self._compiled_step = tf.function(step, autograph=False, jit_compile=jit_compile or None)
    early_stopping = max_batches is None
    variables = dynamics.trainable_variables
    # The weights that training goes on from, while the network has their average; else the average.
    self._swapped = [tf.Variable(v, trainable=False) for v in variables if not early_stopping]
    # With early stopping, the best of a fit so far.
    noise = [dynamics.log_var] if dynamics.constant_noise else []
    self._fitted = [*variables, *noise] if early_stopping else []
    self._kept = [tf.Variable(v, trainable=False) for v in self._fitted]
    # Of the fit under way: its seed, how far it is (-1: there is none), and what it came to.
    count = functools.partial(tf.Variable, trainable=False, dtype=tf.int64)  # which a GPU takes
    self._seed, self._epoch = count([0, 0]), count(-1)
    self._batch, self._epochs = count(0), count(0)
    self._epochs_without = count([0] * dynamics.ensemble_size)
    self._kept_loss = tf.Variable([0.0] * dynamics.ensemble_size, trainable=False)
    self._total, self._train_loss = (tf.Variable(0.0, trainable=False) for _ in range(2))
    self._batches_per_call, self._is_replica = MIN_BATCHES_PER_CALL, replicas.count() > 1

  @property
  def steps(self) -> tf.Tensor:
    """Training steps so far, of all fits."""
    return self._optimizer.iterations

  @property
  def is_under_way(self) -> bool:
    """Whether a fit was begun and is not over."""
    return bool(self._epoch >= 0)

  def fit(self, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """Trains for `max_batches`, or until no member improved for `PATIENCE` epochs.

    With early stopping, every member ends with the weights of its own best epoch, the start
    included.

    Args:
      seed: [2] int.

    Returns:
      What `report` says.
    """
    self.begin(seed)
    while self.is_under_way:
      self.go_on()
    return self.report()

  def begin(self, seed: tf.Tensor) -> None:
    """Takes the normalisers of D_env; `go_on` trains."""
    self._dynamics.set_normalizer(self.statistics.now())
    self._begin(seed)

  @tf.function
  def _begin(self, seed: tf.Tensor) -> None:
    self._seed.assign(tf.cast(seed, tf.int64))
    self._kept_loss.assign(validation_loss(self._dynamics, self.bootstrap.validation()))
    for kept, variable in zip(self._kept, self._fitted, strict=True):
      kept.assign(variable)
    self._epochs_without.assign(tf.zeros_like(self._epochs_without))
    self._epoch.assign(0)
    self._train_loss.assign(0.0)

  def go_on(self) -> None:
    """Trains for about `SECONDS_PER_CALL`, at the most to the end of the fit.

    Raises:
      FloatingPointError: when the loss became no finite number.
    """
    start = time.perf_counter()
    trained = int(self._train(tf.constant(self._batches_per_call)))
    loss = float(self._total + self._train_loss)
    if not math.isfinite(loss):
      raise guard.error(guard.said("the models: loss", loss))
    seconds = (time.perf_counter() - start) / max(trained, 1)
    if not self._is_replica:  # which must do as all others
      self._batches_per_call = max(MIN_BATCHES_PER_CALL, int(SECONDS_PER_CALL / seconds))

  def report(self) -> dict[str, tf.Tensor]:
    """Of the last fit, scalars.

    `validation_loss` is the mean over members, of the weights kept; `train_loss` that of the last
    epoch; and `epochs`.
    """
    return {
      "validation_loss": tf.reduce_mean(self._kept_loss),
      "train_loss": self._train_loss.read_value(),
      "epochs": tf.cast(self._epochs, tf.float32),
    }

  @tf.function
  def _train(self, max_batches: tf.Tensor) -> tf.Tensor:
    """Up to so many batches of the fit under way; the result does not depend on where they end.

    Returns:
      How many batches it were.
    """
    bag, validation = self.bootstrap.draw(self._seed), self.bootstrap.validation()
    shuffle_seed = tf.random.split(self._seed, 2)[1]
    early_stopping = self._max_batches is None
    batches = tf.shape(bag)[1] // self.batch_size
    max_epochs = MAX_EPOCHS if self._max_batches is None else -(-self._max_batches // batches)
    epoch, batch = tf.cast(self._epoch, tf.int32), tf.cast(self._batch, tf.int32)
    epochs_without = tf.cast(self._epochs_without, tf.int32)
    kept_loss, total = tf.identity(self._kept_loss), tf.identity(self._total)
    trained, train_loss = 0, tf.identity(self._train_loss)
    is_over = False
    while trained < max_batches and not is_over:
      end = tf.minimum(batches, batch + max_batches - trained)
      self._swap()
      total = self._part_of_epoch(bag, tf.random.fold_in(shuffle_seed, epoch), batch, end, total)
      self._swap()
      trained += end - batch
      batch = end
      if batch == batches:
        loss = validation_loss(self._dynamics, validation)
        keep = (loss < kept_loss) | (not early_stopping)
        for kept, variable in zip(self._kept, self._fitted, strict=True):
          kept.assign(tf.where(keep[:, tf.newaxis, tf.newaxis], variable, kept))
        kept_loss = tf.where(keep, loss, kept_loss)
        epochs_without = tf.where(keep, 0, epochs_without + 1)
        train_loss, total = total / tf.cast(batches, tf.float32), 0.0
        epoch, batch = epoch + 1, 0
        is_over = epoch >= max_epochs or tf.reduce_all(epochs_without >= PATIENCE)
    if is_over:
      for kept, variable in zip(self._kept, self._fitted, strict=True):
        variable.assign(kept)
    self._epochs.assign(tf.cast(epoch, tf.int64))
    self._epoch.assign(tf.cast(tf.where(is_over, -1, epoch), tf.int64))
    self._batch.assign(tf.cast(batch, tf.int64))
    self._epochs_without.assign(tf.cast(epochs_without, tf.int64))
    self._total.assign(total)
    self._kept_loss.assign(kept_loss)
    self._train_loss.assign(train_loss)
    return trained

  def _swap(self) -> None:
    """Gives the network the trained weights in place of their average, or the average back."""
    if self._swapped:
      for swapped, variable in zip(self._swapped, self._dynamics.trainable_variables, strict=True):
        value = tf.identity(variable)
        variable.assign(swapped)
        swapped.assign(value)

  def _part_of_epoch(
    self, bag: tf.Tensor, seed: tf.Tensor, batch: tf.Tensor, end: tf.Tensor, total: tf.Tensor
  ) -> tf.Tensor:
    """Batches `batch` to `end` of the bootstraps in a random order.

    Returns:
      `total` and the training losses.
    """
    bag = in_batches(bag, self.batch_size, seed)
    for i in tf.range(batch, end):
      total += self._compiled_step(self._buffer.gather(bag[:, i]))
    return total

  def train_step(self, batch: Transition) -> tf.Tensor:
    """One step on a batch of [E, N, ...] transitions.

    Returns:
      Its mean NLL.
    """
    variables = self._dynamics.trainable_variables
    batch = replicas.share(with_images(batch, self.symmetries), axis=1)
    with tf.GradientTape() as tape:
      loss, likelihood = training_loss(self._dynamics, batch)
    gradient = tape.gradient(loss, variables)
    self._optimizer.apply(replicas.summands(gradient), variables)
    _follow(self._swapped, variables, self._optimizer.iterations)
    return likelihood


def _follow(averages: Sequence[tf.Variable], variables: Sequence[Any], steps: tf.Tensor) -> None:
  """Moves running averages, of which there may be none, after so many steps."""
  step = tf.cast(steps, tf.float32)
  decay = tf.minimum(step / (step + 9.0), AVERAGE_DECAY)
  for average, variable in zip(averages, variables if averages else (), strict=True):
    average.assign(decay * average + (1.0 - decay) * variable)


def with_images(batch: Transition, symmetries: Sequence[Symmetry]) -> Transition:
  """A batch [E, N, ...] of which each symmetry has replaced an equal share by its images."""
  shares, rows = len(symmetries) + 1, batch.reward.shape[1]
  bounds = [i * rows // shares for i in range(shares + 1)]
  parts = [tf.nest.map_structure(lambda x, a=a, b=b: x[:, a:b], batch) for a, b in pairwise(bounds)]
  parts[1:] = [s.image(part) for s, part in zip(symmetries, parts[1:], strict=True)]
  return tf.nest.map_structure(lambda *x: tf.concat(x, 1), *parts)
