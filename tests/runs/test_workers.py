"""Workers that train together; two of them at once are tried by `tests.kill_workers`."""

import contextlib
import json

import gin
import numpy as np
import pytest
import tensorflow as tf

from maac_tf.checks import ConfigError
from maac_tf.runs import devices, experiment, workers
from tests import commands
from tests.conftest import BARE
from tests.kill_workers import free_ports
from tests.learners import eagerly

WORKER = "127.0.0.1:23461"


def _cluster(monkeypatch, **kinds):
  monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": kinds}))


@pytest.mark.parametrize("kinds", [{}, {"worker": [WORKER]}, {"chief": [WORKER], "ps": [WORKER]}])
def test_one_alone_is_as_without_it(monkeypatch, kinds):
  _cluster(monkeypatch, **kinds)
  assert workers.strategy() is None
  with devices.device(None) as strategy:
    assert strategy is None and not workers.several(strategy) and workers.is_chief(strategy)


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": 3}'])
def test_what_names_no_workers_is_one_line(monkeypatch, text):
  monkeypatch.setenv("TF_CONFIG", text)
  with pytest.raises(ConfigError, match="TF_CONFIG is of no workers that .*: ") as error:
    workers.strategy()
  assert "\n" not in str(error.value)


def test_several_need_a_folder_that_all_can_read(monkeypatch):
  with pytest.raises(ConfigError, match="Several workers need one --run_dir"):
    workers.check_folder(None, _Strategy(1))
  workers.check_folder("runs/line", _Strategy(1))
  workers.check_folder(None, None)


@pytest.mark.parametrize(
  ("kinds", "kind", "index", "chief"),
  [
    ({"worker": [WORKER, WORKER]}, "worker", 0, True),
    ({"worker": [WORKER, WORKER]}, "worker", 1, False),
    ({"chief": [WORKER], "worker": [WORKER]}, "worker", 0, False),
    ({"chief": [WORKER], "worker": [WORKER]}, "chief", 0, True),
  ],
)
def test_one_of_them_writes(kinds, kind, index, chief):
  assert workers.is_chief(_Strategy(index, kind, kinds)) == chief


class _Strategy(tf.distribute.MultiWorkerMirroredStrategy):
  """Says that it is of several workers, of which there is one."""

  def __init__(self, index, kind="worker", kinds=None):
    spec = tf.train.ClusterSpec(kinds or {"worker": [WORKER, WORKER]})
    self._resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
      spec, task_type=kind, task_id=index
    )

  @property
  def cluster_resolver(self):
    return self._resolver


def test_two_train_one_run(tmp_path):
  """The chief alone writes and prints; both have the same networks, or they would end."""
  cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
  arguments = [f"--gin_param={binding}" for binding in BARE]
  arguments += [f"--run_dir={tmp_path / 'run'}", "--gin_param=train.iterations=2"]
  with contextlib.ExitStack() as stack:
    ends = []
    for index in range(2):
      config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
      started = commands.under_way(
        "train", *arguments, cwd=tmp_path, environment={"TF_CONFIG": config}
      )
      ends.append(stack.enter_context(started)[1])
    (code, out, err), (other_code, other_out, other_err) = (end() for end in ends)
  assert (code, other_code) == (0, 0), err + other_err
  assert "Finished." in out and not other_out
  assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 3


def test_who_is_left_alone_says_so(original_run, tmp_path, monkeypatch):
  gin.parse_config(BARE)
  trainer = experiment.build_trainer("pendulum")

  def fail(*_):
    raise tf.errors.UnavailableError(None, None, "recvmsg:Connection reset by peer\nand more")

  monkeypatch.setattr(trainer, "run_iteration", fail)
  trainer.under_way.begun = True
  follower = workers.Follower(str(tmp_path / "none"), trainer)
  with pytest.raises(tf.errors.UnavailableError):  # of one process, it is of something else
    experiment.iterate(trainer, follower, 2, show=False)
  trainer.learner.strategy = _Strategy(1)
  with pytest.raises(ConfigError, match="Another worker has gone, or cannot be reached") as error:
    experiment.iterate(trainer, follower, 2, show=False)
  assert error.value.__notes__ == ["The first worker saves the run."]
  trainer.collector.replay = False
  with pytest.raises(ConfigError, match="Train hardware with one process"):
    workers.open_run(str(tmp_path / "none"), trainer, None)
  assert not (tmp_path / "none").exists()


def test_those_that_differ_end(original_run, monkeypatch):
  gin.parse_config(BARE)
  trainer = experiment.build_trainer("pendulum")
  trainer.learner.strategy, seen = _Strategy(1), []
  others = [tf.zeros_like]

  def gather(_, mine):
    seen.append(mine.numpy())
    return tf.stack([mine, mine + others[0](mine)])

  monkeypatch.setattr(workers, "_gather", gather)
  workers.agree(trainer)
  trainer.learner.actor_critic.policy.trainable_variables[0].assign_add([[0.1] * 16] * 3)
  workers.agree(trainer)
  assert not np.array_equal(*seen)  # of each number
  others[0] = lambda mine: tf.one_hot(3, len(mine))
  with pytest.raises(ConfigError, match="The workers have not the same steps or networks"):
    workers.open_run(str(original_run), trainer, None)


def test_they_are_compared_before_the_first_update(tmp_path, monkeypatch):
  gin.parse_config(BARE)
  trainer, seen = experiment.build_trainer("pendulum"), []

  def agree(trainer):
    seen.append((int(trainer.env_steps), int(trainer.iteration)))
    raise ConfigError("they differ")

  monkeypatch.setattr(workers, "agree", agree)
  follower = workers.Follower(str(tmp_path), trainer)
  with eagerly(), pytest.raises(ConfigError, match="they differ"):
    experiment.iterate(trainer, follower, 2, show=False)
  assert seen == [(300, 0)]


def test_a_follower_has_what_the_chief_wrote(original_run):
  gin.parse_config(BARE)
  trainer = experiment.build_trainer("pendulum")
  before = {path: path.stat().st_mtime_ns for path in original_run.rglob("*")}
  follower = workers.Follower(str(original_run), trainer)
  assert follower.resumed and int(trainer.iteration) == 2
  assert experiment.iterate(trainer, follower, 2, show=False) is None  # is at its end
  assert before == {path: path.stat().st_mtime_ns for path in original_run.rglob("*")}
