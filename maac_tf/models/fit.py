"""Maximum-likelihood fit of the ensemble (section 4.3, model learning)."""

import math
from collections.abc import Sequence
from itertools import pairwise

import gin
import keras
import tensorflow as tf

from maac_tf.checks import require, require_integers, require_numbers
from maac_tf.data.replay import ReplayBuffer
from maac_tf.models.ensemble import Dynamics
from maac_tf.tasks.symmetries import Symmetry

# The learned limits of the log-variance are pulled together this much (Chua et al. 2018).
LIMIT_WEIGHT = 0.01
# Of a standard normal, nats.
GAUSSIAN_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)
# Rows per member that the validation loss is measured on, at the most.
MAX_VALIDATION_ROWS = 4096


@gin.configurable(denylist=["dynamics", "buffer", "seed", "jit_compile", "symmetries"])
class DynamicsFit(tf.Module):
  """Fits the members of an ensemble to bootstraps of D_env.

  Which slot of the buffer is for validation is drawn once for each member and never changes, so
  that no member is ever validated on what it was trained on, in this fit or an earlier one.
  """

  def __init__(
    self,
    dynamics: Dynamics,
    buffer: ReplayBuffer,
    seed: int,
    jit_compile: bool = False,
    symmetries: Sequence[Symmetry] = (),
    learning_rate: float = 1e-3,
    batch_size: int = 256,
    max_epochs: int = 200,
    patience: int | None = 5,
    validation_fraction: float = 0.1,
    variance_weighting: float = 0.0,
    weight_decay: float = 0.0,
    max_batches: int | None = None,
    average_decay: float = 0.0,
    recent_fraction: float = 0.0,
    recent_transitions: int = 1_000,
  ):
    """Makes the optimizer and draws the roles.

    Args:
      dynamics: the ensemble to fit.
      buffer: D_env.
      seed: of the roles.
      jit_compile: compile a training step with XLA.
      symmetries: of the task. Each has the images of an equal share of a batch fitted in the place
        of the transitions themselves, of which one more share is left.
      learning_rate: of Adam.
      batch_size: transitions for each member.
      max_epochs: of one fit.
      patience: epochs without improvement of the validation loss before a fit ends, with the
        weights of the best epoch. None: no early stopping.
      validation_fraction: the share of transitions that a member is validated on.
      variance_weighting: β of the β-NLL loss (Seitzer et al. 2022), in [0, 1]. The likelihood of
        each output is weighted by its predicted variance, held constant, to this power. 0 is plain
        maximum likelihood, which gives up on the mean where it predicts a large variance; 1 fits
        the mean by least squares.
      weight_decay: the share of each kernel that a step takes away, in units of the learning rate
        (Loshchilov and Hutter 2019): against overfitting while data is little.
      max_batches: of one fit, for each member; it ends after the epoch that reaches them. None: no
        limit.
      average_decay: of the running average of a member's weights, over training steps, that is
        validated and used; training itself goes on from the last weights. The average is without
        the noise of the last steps, as a lower learning rate would be, and no slower (Polyak and
        Juditsky 1992). It decays faster in the first steps; 0 is no average.
      recent_fraction: the share of a bootstrap that is drawn from the `recent_transitions` newest
        (about so many) alone, as Wang and Ross (2019) do for critics. What the current policy does,
        and above all what it does wrong, is little of D_env: drawn evenly, models underfit it.

    Raises:
      ValueError: for a value out of range.
    """
    super().__init__()
    require_integers("DynamicsFit", 1, batch_size=batch_size, max_epochs=max_epochs)
    if patience is not None:
      require_integers("DynamicsFit", 1, patience=patience)
    require_numbers("DynamicsFit", 0, 1, recent_fraction=recent_fraction)
    require_integers("DynamicsFit", 1, recent_transitions=recent_transitions)
    require_numbers("DynamicsFit", 0, 0.9, validation_fraction=validation_fraction)
    require_numbers("DynamicsFit", 0, 1, variance_weighting=variance_weighting)
    require_numbers("DynamicsFit", 0, 1, learning_rate=learning_rate)
    require_numbers("DynamicsFit", 0, 1 / max(learning_rate, 1e-9), weight_decay=weight_decay)
    require_numbers("DynamicsFit", 0, 0.99999, average_decay=average_decay)
    if max_batches is not None:
      require_integers("DynamicsFit", 1, max_batches=max_batches)
    require(
      validation_fraction > 0 or not (dynamics.constant_noise or dynamics.empirical_errors),
      "DynamicsFit.validation_fraction must be above 0: with Dynamics.constant_noise and with "
      "Dynamics.empirical_errors the models' noise is of their errors on validation data.",
    )
    require(
      batch_size > len(symmetries),
      f"DynamicsFit.batch_size ({batch_size}) must be above the number of the task's symmetries "
      f"({len(symmetries)}): each has its share of a batch.",
    )
    self._variance_weighting, self.symmetries = variance_weighting, symmetries
    self._dynamics, self._buffer = dynamics, buffer
    self.batch_size, self._max_epochs, self._patience = batch_size, max_epochs, patience
    self.recent_fraction, self._recent_transitions = recent_fraction, recent_transitions
    self._train_fraction = 1.0 - validation_fraction
    shape = (dynamics.ensemble_size, buffer.capacity)
    roles = tf.random.stateless_uniform(shape, [seed, 0]) < validation_fraction
    roles |= tf.eye(*shape) > 0  # a row at the least, however little data there is
    self._is_validation = tf.Variable(roles, trainable=False)
    self._max_batches = max_batches or 10**9
    self._optimizer = keras.optimizers.AdamW(learning_rate, weight_decay)
    self._optimizer.exclude_from_weight_decay(
      [v for v in dynamics.trainable_variables if v.shape[1] == 1]
    )
    self._optimizer.build(dynamics.trainable_variables)
    self._compiled_step = tf.function(
      self.train_step, autograph=False, jit_compile=jit_compile or None
    )
    self._average_decay = average_decay
    # The weights that training goes on from, while the network has their average; else the average.
    self._swapped = [
      tf.Variable(v, trainable=False) for v in dynamics.trainable_variables if average_decay
    ]
    noise = [dynamics.log_var] if dynamics.constant_noise else []
    self._fitted = dynamics.trainable_variables + noise + self._swapped
    # The best so far of a fit; without early stopping, the last are.
    self._kept = [tf.Variable(v, trainable=False) for v in self._fitted if patience is not None]

  @property
  def steps(self) -> tf.Tensor:
    """Training steps so far, of all fits."""
    return self._optimizer.iterations

  def negative_log_likelihood(self, batch):
    """Of each output, in nats of the *normalised* change: [E, N, ...] -> [E, N, O].

    The change of variables makes fits comparable between tasks and iterations.

    Returns:
      (the negative log-likelihood, the variance predicted for the normalised change).
    """
    gaussian = self._dynamics(batch.observation, batch.action)
    scale = self._dynamics.target_normalizer.scale
    loss = -gaussian.distribution.log_prob(self._dynamics.outcome(batch)) - tf.math.log(scale)
    return loss, tf.square(gaussian.stddev() / scale)

  @tf.function
  def fit(self, seed):
    """Trains until no member improved on its validation loss for `patience` epochs.

    Every member ends with the weights of its own best epoch, the start included; without
    `patience`, all go on to `max_epochs` or `max_batches` and end as they are then.

    Args:
      seed: [2] int.

    Returns:
      Dict of scalars: `validation_loss` (mean over members, of the weights kept), `train_loss`
      (of the last epoch), `epochs`.
    """
    size = tf.cast(self._buffer.size, tf.int32)
    everything = self._buffer.gather(tf.range(size))
    self._dynamics.set_normalizer(everything)
    bag_seed, shuffle_seed = tf.unstack(tf.random.split(seed, 2))
    is_validation = self._is_validation[:, :size]
    # Training rows first, each kind from the oldest to the newest.
    last = tf.cast(is_validation, tf.int64) * self._buffer.size
    order = tf.argsort(last - self._buffer.ages(), axis=-1)
    num_validation = tf.reduce_sum(tf.cast(is_validation, tf.int32), -1)  # [E]
    bag = self._bootstrap(order, size - num_validation, bag_seed)
    # The last rows of `order` are the validation rows; evenly spread ones where they are too many.
    width = tf.minimum(tf.reduce_max(num_validation), MAX_VALIDATION_ROWS)
    spread = tf.range(width)[tf.newaxis] * num_validation[:, tf.newaxis] // width
    validation_rows = tf.gather(order, size - num_validation[:, tf.newaxis] + spread, batch_dims=1)
    validation = self._buffer.gather(validation_rows)

    def validation_loss():
      if self._dynamics.constant_noise:
        # Of errors that have the predicted variance, the mean NLL is the Gaussian's entropy.
        self._dynamics.set_noise(validation)
        return tf.reduce_mean(GAUSSIAN_ENTROPY + 0.5 * self._dynamics.log_var, [1, 2])
      return tf.reduce_mean(self.negative_log_likelihood(validation)[0], [1, 2])

    kept_loss = validation_loss()
    for kept, variable in zip(self._kept, self._fitted, strict=False):  # or none
      kept.assign(variable)
    epochs_without = tf.zeros_like(kept_loss, tf.int32)
    train_loss, epoch = 0.0, 0
    batches = tf.shape(bag)[1] // self.batch_size
    max_epochs = tf.minimum(self._max_epochs, -(-self._max_batches // batches))
    patience = self._patience or self._max_epochs
    while epoch < max_epochs and tf.reduce_any(epochs_without < patience):
      self._swap()
      train_loss = self._epoch(bag, tf.random.fold_in(shuffle_seed, epoch))
      self._swap()
      loss = validation_loss()
      keep = (loss < kept_loss) | (self._patience is None)
      for kept, variable in zip(self._kept, self._fitted, strict=False):
        kept.assign(tf.where(keep[:, tf.newaxis, tf.newaxis], variable, kept))
      kept_loss = tf.where(keep, loss, kept_loss)
      epochs_without = tf.where(keep, 0, epochs_without + 1)
      epoch += 1
    for kept, variable in zip(self._kept, self._fitted, strict=False):
      variable.assign(kept)
    if self._dynamics.empirical_errors:
      newest = tf.range(self._dynamics.empirical_errors) % num_validation[:, tf.newaxis]
      rows = tf.gather(order, size - 1 - newest, batch_dims=1)
      self._dynamics.set_errors(self._buffer.gather(rows))
    return {
      "validation_loss": tf.reduce_mean(kept_loss),
      "train_loss": train_loss,
      "epochs": tf.cast(epoch, tf.float32),
    }

  def _swap(self):
    """Gives the network the trained weights in place of their average, or the average back."""
    if self._average_decay:
      for swapped, variable in zip(self._swapped, self._dynamics.trainable_variables, strict=True):
        value = tf.identity(variable)
        variable.assign(swapped)
        swapped.assign(value)

  def _bootstrap(self, order, num_train, seed):
    """Rows [E, whole batches], drawn with replacement from each member's own training rows."""
    rows = tf.cast(tf.cast(tf.shape(order)[1], tf.float32) * self._train_fraction, tf.int32)
    batches = tf.maximum(rows // self.batch_size, 1)
    shape = [order.shape[0], batches * self.batch_size]
    limit = num_train[:, tf.newaxis]
    uniform, kind = tf.unstack(tf.random.stateless_uniform([2, *shape], seed))
    recent = tf.cast(self._recent_transitions / tf.shape(order)[1], tf.float32)
    newest = 1.0 - tf.minimum(recent, 1.0) * (1.0 - uniform)
    uniform = tf.where(kind < self.recent_fraction, newest, uniform)
    drawn = tf.cast(uniform * tf.cast(limit, tf.float32), tf.int32)
    return tf.gather(order, tf.minimum(drawn, limit - 1), batch_dims=1)

  def _epoch(self, bag, seed):
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

  def train_step(self, batch):
    """One step on a batch of [E, N, ...] transitions; returns its mean NLL."""
    variables = self._dynamics.trainable_variables
    batch = self._with_images(batch)
    with tf.GradientTape() as tape:
      loss, likelihood = self.loss(batch)
    self._optimizer.apply(tape.gradient(loss, variables), variables)
    if self._average_decay:
      step = tf.cast(self._optimizer.iterations, tf.float32)
      decay = tf.minimum(step / (step + 9.0), self._average_decay)
      for average, variable in zip(self._swapped, variables, strict=True):
        average.assign(decay * average + (1.0 - decay) * variable)
    return likelihood

  def _with_images(self, batch):
    """A batch of which each symmetry has replaced an equal share by its images."""
    shares, rows = len(self.symmetries) + 1, batch.reward.shape[1]
    bounds = [i * rows // shares for i in range(shares + 1)]
    parts = [
      tf.nest.map_structure(lambda x, a=a, b=b: x[:, a:b], batch) for a, b in pairwise(bounds)
    ]
    parts[1:] = [s.image(part) for s, part in zip(self.symmetries, parts[1:], strict=True)]
    return tf.nest.map_structure(lambda *x: tf.concat(x, 1), *parts)

  def loss(self, batch):
    """What a step descends on a batch of [E, N, ...] transitions, and its mean NLL, scalars."""
    likelihood, variance = self.negative_log_likelihood(batch)
    weight = tf.stop_gradient(variance**self._variance_weighting)
    member_loss = tf.reduce_mean(weight * likelihood, [1, 2])
    if not self._dynamics.constant_noise:
      limits = tf.reduce_mean(self._dynamics.max_log_var - self._dynamics.min_log_var, [1, 2])
      member_loss += LIMIT_WEIGHT * limits
    return tf.reduce_sum(member_loss), tf.reduce_mean(likelihood)  # members do not interact
