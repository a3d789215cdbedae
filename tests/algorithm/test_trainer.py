"""Algorithm 1 and its schedule."""

import gin
import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from maac_tf.algorithm import evaluator, learning
from maac_tf.algorithm import trainer as trainer_module
from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.learning import UnderWay
from maac_tf.algorithm.trainer import Trainer
from maac_tf.checks import ConfigError
from maac_tf.runs.experiment import build_trainer
from maac_tf.tasks.task import Task
from tests.learners import eagerly


def _make(task="pendulum", **options):
  gin.parse_config([f"Trainer.{name} = {value!r}" for name, value in options.items()])
  return build_trainer(task)


class _TorqueIsReward(gym.Wrapper):
  def step(self, action):
    observation, _, *others = super().step(action)
    return observation, float(action[0]), *others


@pytest.mark.parametrize(("factor", "learned"), [(1.0, False), (0.5, False), (0.5, True)])
def test_functions_that_are_not_the_environments_are_warned_of(tiny, monkeypatch, factor, learned):
  """In the environment's units, torques in [-2, 2]; not where the reward is learned."""
  warnings = []
  monkeypatch.setattr(
    trainer_module.environment_check.logging,
    "warning",
    lambda *arguments: warnings.append(arguments),
  )
  make_env = lambda: _TorqueIsReward(gym.make("Pendulum-v1"))  # noqa: E731
  task = Task("t", make_env, None if learned else lambda s, a, n: factor * a[..., 0])
  environment = task.make_environment()
  trainer = Trainer(Maac(task, environment), environment)
  monkeypatch.setattr(trainer.learning, "run", lambda *_: {})
  trainer.run_iteration()
  assert len(warnings) == (factor != 1.0 and not learned), warnings


class _Unseeded(gym.Wrapper):
  def reset(self, *, seed=None, options=None):
    return super().reset()


class _AtRest(gym.ObservationWrapper):
  def observation(self, observation):
    return np.ones_like(observation)


def _first_iteration(monkeypatch, wrap):
  """Without updates."""
  task = Task("t", lambda: wrap(gym.make("Pendulum-v1")))
  environment = task.make_environment()
  trainer = Trainer(Maac(task, environment), environment)
  monkeypatch.setattr(trainer.learning, "run", lambda *_: {})
  trainer.run_iteration()


def test_an_environment_that_cannot_be_repeated_is_warned_of(tiny, monkeypatch):
  warnings = []
  monkeypatch.setattr(
    trainer_module.environment_check.logging, "warning", lambda text, *a: warnings.append(text % a)
  )
  _first_iteration(monkeypatch, lambda env: env)
  assert warnings == []
  _first_iteration(monkeypatch, _Unseeded)
  (warning,) = warnings
  assert warning.startswith("Task 't': Two environments with the same seed differ at once")


def test_where_nothing_can_be_learned_a_run_stops_after_the_random_steps(tiny, monkeypatch):
  with pytest.raises(ConfigError, match="Task 't': None of the 3 numbers of the observation"):
    _first_iteration(monkeypatch, _AtRest)


def test_evaluations_are_of_the_ema_policy_and_the_best_is_run_again_on_other_seeds(
  tiny, monkeypatch
):
  trainer, seeds = _make(), []
  for variable in trainer.learner.actor_critic.ema_policy.trainable_variables:
    variable.assign(tf.zeros_like(variable))  # no torque

  def spy(task, act, starts, record, environment):
    assert environment is None  # each has one of its own
    seeds.append((len(starts), starts[0]))
    assert not np.any(act(np.ones([2, 3], np.float32)))
    return evaluator.Episodes(np.full(len(starts), -5.0), np.full(len(starts), 200))

  monkeypatch.setattr(evaluator, "run_episodes", spy)
  monkeypatch.setattr(trainer.learning, "run", lambda *_: {})
  first = trainer.begin()  # before it learns: no candidate for the best
  assert first["env_steps"] == 300 and first["eval/return"] == -5.0
  assert seeds == [(2, 10_000)] and not trainer.best.exists
  seeds.clear()
  row = trainer.run_iteration()
  assert seeds == [(2, 10_000), (20, 20_000)]
  assert row["eval/return"] == row["best/return"] == -5.0 and row["eval/length"] == 200.0
  assert row["best/env_steps"] == row["env_steps"] == 340
  trainer.run_iteration()  # as good, and so no better
  assert seeds == [(2, 10_000), (20, 20_000), (2, 10_000)]


@pytest.mark.parametrize("taken", [15, 40])
def test_steps_that_a_robot_took_before_a_restart_are_not_taken_again(tiny, monkeypatch, taken):
  trainer = _make(eval_every=100)
  monkeypatch.setattr(trainer, "_learn", lambda progress: {})
  trainer.begin()
  trainer.collect(taken)
  assert trainer.run_iteration()["env_steps"] == 340 == trainer.learner.env_buffer.size


def test_evaluations_are_due_every_so_many_steps(tiny, monkeypatch):
  trainer = _make(eval_every=100)
  evaluation = {"eval/return": -5.0, "eval/return_std": 0.0, "eval/length": 200.0}
  monkeypatch.setattr(trainer.evaluator, "evaluate", lambda: evaluation)
  monkeypatch.setattr(trainer.evaluator, "evaluate_again", lambda: np.array([-5.0]))
  monkeypatch.setattr(trainer.learning, "run", lambda *_: {})
  rows = [trainer.run_iteration() for _ in range(6)]  # of 40 steps
  assert [row["eval/return"] for row in rows] == [None, None, -5.0, None, -5.0, None]


def test_updates_on_the_random_steps_come_before_the_first_action(tiny):
  """The policy that collects for the first time is not the initial one any more."""
  trainer = _make(initial_updates=30)  # 20 updates an iteration
  updates, acted_after, fitted_after = [], [], []
  collect = trainer.collect

  def count(number, seed):
    updates.append(int(number))
    return {}

  def note(steps, random=False, progress=None):
    acted_after.append(sum(updates))
    return collect(steps, random)

  def fitted(now, pause):
    fitted_after.append(sum(updates))
    return {}

  learner = trainer.learner
  learner.train, trainer.collect, trainer.learning.fit = count, note, fitted
  trainer.run_iteration()
  assert acted_after == [0, 40] and fitted_after == [0, 20, 40] and sum(updates) == 60


@pytest.mark.parametrize(
  ("updates", "sizes"), [(20, [20]), (300, [100] * 3), (150, [75, 75]), (101, [51, 50])]
)
def test_the_updates_of_a_round_are_calls_of_two_sizes_at_most(tiny, updates, sizes):
  learning, shares, calls = _make().learning, [], []
  learning.rollout_frequency, learning.rounds = updates, 2
  learning.fit, learning.imagine = lambda *_: {}, lambda _: {}
  learning._learner.train = lambda number, seed: calls.append(number) or {}
  learning.run(0, UnderWay(), shares.append, lambda: None)
  assert calls == 2 * sizes and sum(shares) == pytest.approx(1.0)


def test_training_episodes_are_cut_off_where_they_earn_little(tiny, monkeypatch):
  """Random ones after 100 steps, others by the mean of as many steps; evaluations are not."""
  trainer, seen = _make(), []
  collect = trainer.collector.collect

  def spy(act, noise, least):
    seen.append(least)
    return collect(act, noise, least)

  monkeypatch.setattr(trainer.collector, "collect", spy)
  trainer.collect(150, random=True)
  stored = trainer.learner.env_buffer.newest(150)
  trainer.collect(10)
  assert seen[0] == np.inf
  rewards = stored.reward.numpy().astype(float)  # of 100 steps of an episode, and 50 of another
  want = [np.mean(np.r_[rewards[:n], rewards[100 : 100 + n]]) for n in range(1, 101)]
  np.testing.assert_allclose(seen[1], [*want, *[want[-1]] * 900], rtol=1e-5)
  follows = np.all(stored.next_observation[:-1] == stored.observation[1:], axis=-1)
  assert np.flatnonzero(~follows).tolist() == [99]
  assert trainer.evaluator.evaluate()["eval/length"] == 200
  trainer = _make(cut_off_episodes=False)
  trainer.collect(150, random=True)
  stored = trainer.learner.env_buffer.newest(150)
  assert np.all(stored.next_observation[:-1] == stored.observation[1:])


def test_a_robot_that_runs_but_starts_slowly_is_not_cut_off(tiny, monkeypatch):
  """The first 100 steps of each episode earn half of what the later ones do."""
  trainer, steps = _make(random_steps=100), 0
  step, reset = trainer.environment.step, trainer.environment.reset

  def begin(seed=None):
    nonlocal steps
    steps = 0
    return reset(seed)

  def run(action):
    nonlocal steps
    steps += 1
    reward = float(trainer.env_steps > 0) * (5.0 if steps <= 100 else 10.0)
    return step(action)._replace(reward=reward)

  monkeypatch.setattr(trainer.environment, "reset", begin)
  monkeypatch.setattr(trainer.environment, "step", run)
  trainer.collect(100, random=True)
  trainer.env_steps.assign(100)
  for _ in range(20):
    trainer.collect(100)
  stored = trainer.learner.env_buffer.newest(2_000)
  follows = np.all(stored.next_observation[:-1] == stored.observation[1:], axis=-1)
  assert np.flatnonzero(~follows).tolist() == list(range(199, 1_999, 200))  # the time limit


@pytest.mark.parametrize("reward", [0.1, -0.3])
def test_a_reward_that_never_changes_cuts_nothing_off(tiny, monkeypatch, reward):
  trainer = _make()
  step = trainer.environment.step
  monkeypatch.setattr(trainer.environment, "step", lambda a: step(a)._replace(reward=reward))
  trainer.collect(150, random=True)
  trainer.collector.cut_off()
  trainer.collect(150)
  stored = trainer.learner.env_buffer.newest(150)
  assert np.all(stored.next_observation[:-1] == stored.observation[1:])


def test_rollouts_grow_linearly(tiny):
  trainer = _make(rollout_schedule=(1, 15, 20, 100))
  lengths = []
  for iteration in (0, 20, 60, 99, 100, 300):
    lengths.append(trainer.learning.rollout_length(iteration))
  assert lengths == [1, 1, 8, 14, 15, 15]


@pytest.mark.parametrize(
  ("starts", "schedule", "most", "capacity"),
  [
    (40, (20, 20, 0, 1), 10**6, 4 * 40 * 20),  # one iteration's rollouts, of 4 rounds
    (43, (1, 5, 0, 9), 10**6, 4 * 40 * 5),  # a multiple of the ensemble, the longest rollouts
    (40, (20, 20, 0, 1), 1_000, 1_000),
    (1, (20, 20, 0, 1), 10**6, 4 * 4 * 20),  # no fewer than one for each member
  ],
)
def test_d_model_holds_an_iterations_rollouts(tiny, monkeypatch, starts, schedule, most, capacity):
  monkeypatch.setattr(learning, "MAX_MODEL_CAPACITY", most)
  trainer = _make(rollout_starts=starts, rollout_schedule=schedule)
  assert trainer.learning.imagined_data.buffer is trainer.learner.model_buffer
  assert trainer.learner.model_buffer.capacity == capacity


def test_rollout_starts_shrink_to_fit_the_buffer(tiny, monkeypatch):
  monkeypatch.setattr(learning, "MAX_MODEL_CAPACITY", 480)
  trainer = _make()
  trainer.collect(50, random=True)
  with eagerly():
    for _ in range(2):
      assert trainer.learning.imagine(0)["imagine/length"] == 20
      assert trainer.learner.model_buffer.size == 24 * 20  # a round fits, and none of it is lost


def _eager_learning(monkeypatch):
  """Of updates that are not compiled: a learner, and a function that runs lines 7-12."""
  trainer, now, pauses = _make(), UnderWay(fitted={}), []
  learner = trainer.learner

  def train(updates, seed):
    seeds = tf.unstack(tf.random.split(seed, updates))
    rows = [learner.draw(s) for s in seeds]
    return learner.updates(tf.nest.map_structure(lambda *x: tf.stack(x), *rows))

  monkeypatch.setattr(learner, "train", train)
  trainer.collect(50, random=True)
  learner.begin_iteration()

  def run():
    return trainer.learning.run(0, now, lambda share: None, lambda: pauses.append(1))

  return learner, now, pauses, run


def test_updates_in_which_a_number_goes_wrong_are_skipped(tiny, monkeypatch):
  with eagerly():
    learner, now, pauses, run = _eager_learning(monkeypatch)
    train, calls, kept = learner.train, [], []

    def train_with_two_faults(updates, seed):
      before = [v.numpy() for v in learner.updated_variables()]
      if len(calls) == 1:  # from where the call that was skipped has started
        assert all(map(np.array_equal, kept[0], before))
      kept[:] = [before]
      calls.append(updates)
      metrics = train(updates, seed)
      if len(calls) in (1, 3):
        bias = learner.actor_critic.target_critic._mlp.layers[-1].bias
        bias.assign(np.nan * tf.ones_like(bias))
        train(updates, seed)
      return metrics

    monkeypatch.setattr(learner, "train", train_with_two_faults)
    row = run()
    assert calls == [5, 5, 5, 5] and len(pauses) == 4
    assert now.end_iteration()[0]["update/skipped"] == 10 and not now.skipped
    assert all(np.isfinite(v.numpy()).all() for v in learner.updated_variables())
    assert np.isfinite(row["critic/loss"])


def test_what_updates_change_is_known(tiny, monkeypatch):
  with eagerly():
    learner, _, _, run = _eager_learning(monkeypatch)
    run()  # the first one imagines, too
    all_of_it = tf.train.TrackableView(learner).descendants()
    values = {id(x): x for x in all_of_it if isinstance(x, tf.Variable)}
    values |= {id(x.value): x.value for x in all_of_it if isinstance(x, keras.Variable)}
    before = {key: x.numpy() for key, x in values.items()}
    learner.train(1, (0, 1))
    changed = {key for key, x in values.items() if not np.array_equal(x.numpy(), before[key])}
  assert changed and changed <= {id(v) for v in learner.updated_variables()}


def test_numbers_that_go_on_going_wrong_end_the_run_before_a_checkpoint(tiny, monkeypatch):
  with eagerly():
    learner, now, pauses, run = _eager_learning(monkeypatch)
    bias = learner.actor_critic.target_critic._mlp.layers[-1].bias
    bias.assign(np.nan * tf.ones_like(bias))
    message = "the critics' targets: mean became nan, where "
    with pytest.raises(FloatingPointError, match=message) as error:
      run()
  assert len(pauses) == learning.MAX_SKIPPED_CALLS - 1 and not now.updated
  networks = learner.actor_critic.critic.variables  # to which the fault has not come
  assert all(np.isfinite(v.numpy()).all() for v in networks)
  assert "\n" not in str(error.value) and "start a run with other settings" in str(error.value)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"random_steps": 0}, "random_steps must be an integer of 1 or more, not 0"),
    ({"random_steps": 31}, r"random_steps \(31\) must be 32 or more, so that every member"),
    ({"rollout_schedule": (5, 1, 0, 1)}, "rollout_schedule must be"),
    ({"rollout_schedule": (1, 2)}, "rollout_schedule must be .from, to, first, last."),
    ({"rollout_schedule": (1.5, 2, 0, 1)}, "rollout_schedule must be a tuple of integers"),
    ({"cut_off_episodes": 1}, "cut_off_episodes must be True or False, not 1"),
    ({"updates_per_step": 0}, "makes 0 updates an iteration"),
    ({"updates_per_step": 0.52}, r"makes 20.8 updates .*rollout_frequency \(5\) must divide"),
    ({"rollout_frequency": 3}, "makes 20 updates an iteration, which"),
    ({"rollout_frequency": 40}, "makes 20 updates an iteration, which"),
    ({"random_steps": 5_000}, r"env_capacity \(2000\) must hold"),
  ],
)
def test_impossible_settings_are_refused(tiny, settings, message):
  with pytest.raises(ValueError, match=message):
    _make(**settings)
