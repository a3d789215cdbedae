"""The benchmark: its arithmetic is counted right and its table is complete. No test has a clock."""

import csv
from types import SimpleNamespace

import pytest
import tensorflow as tf

from maac_tf import benchmark
from maac_tf.analysis import deployment, matrix_products, timing
from maac_tf.analysis.timing import Row
from maac_tf.runs import config
from maac_tf.runs.experiment import make_trainer
from tests import commands
from tests.commands import ROOT
from tests.conftest import BARE, TINY
from tests.learners import fill


def test_products_of_a_sac_update_are_those_of_its_layers():
  """Against a count by hand: S = 17, A = 6, two layers of 16, B = 32, two critics, one action."""
  config.load(benchmark.PEERS_FILES, TINY)
  learner = fill(make_trainer().learner)
  counted = matrix_products.products_of(learner.update, learner.draw(timing.SEED))

  def network(sizes, to_input):
    """Of one batch: (forward, gradient to the input, gradient to the weights)."""
    layers = [2 * 32 * i * o for i, o in zip(sizes, sizes[1:], strict=False)]
    return sum(layers), sum(layers[0 if to_input else 1 :]), sum(layers)

  policy = network((17, 16, 16, 12), to_input=False)
  critics = [2 * n for n in network((23, 16, 16, 1), to_input=True)]
  critic_alone = [2 * n for n in network((23, 16, 16, 1), to_input=False)]
  policy_loss = sum(policy) + critics[0] + critics[1]
  target = policy[0] + critics[0]
  critic_loss = sum(critic_alone)
  assert sum(p.flop for p in counted) == policy_loss + target + critic_loss


def test_a_floor_is_the_time_of_one_pass(monkeypatch):
  """With a clock that shows how often a function says that it did its work."""
  passes = []

  def floor(products, jit_compile):
    del products, jit_compile
    return lambda count: passes.append(int(count)) or [tf.zeros([])]

  monkeypatch.setattr(matrix_products, "floor", floor)
  setting = timing.Setting.__new__(timing.Setting)  # no run is needed
  setting.name, setting.jit_compile = "s", None
  setting._seconds = lambda *functions: [f() or 1 for f in functions]
  product = matrix_products.Product(("a", "b"), ((5, 4), (4, 3)), (False, False), tf.float32)
  row = setting._against_floor("update", lambda: 4, [product])
  assert row.floor == 1e3 * passes[0] and row.value == 4e3
  assert row.gflop == pytest.approx(120e-9)


def test_the_command_measures_every_part(tmp_path):
  small = "Planner.num_candidates = 16", "Planner.horizon = 2"
  params = [f"--gin_param={p}" for p in (*BARE, *small)]
  file = ROOT / "gin" / "pendulum.gin"
  out = tmp_path / "benchmark.csv"
  arguments = f"--gin_file={file}", *params, "--rounds=1", f"--out={out}"
  code, text, error = commands.run("benchmark", *arguments, cwd=ROOT)
  assert code == 0, error
  with open(out, newline="") as csv_file:
    rows = {row["part"]: row for row in csv.DictReader(csv_file)}
  parts = ["start to first updates", "peak memory", *timing.PARTS, "product of 2048"]
  parts.insert(parts.index("fitting step") + 1, "fit")
  assert list(rows) == parts
  assert all(float(row["value"]) > 0 for row in rows.values())
  for part in ("update", "fitting step"):
    row = {
      k: float(rows[part][k]) for k in ("value", "floor", "ratio", "gflop", "rate", "of_large")
    }
    assert row["ratio"] == pytest.approx(row["value"] / row["floor"])
    assert row["rate"] == pytest.approx(1e3 * row["gflop"] / row["value"])
    assert row["of_large"] > 0
  assert float(rows["act"]["ratio"]) > 1
  samples = 1e3 * 256 * 4 / float(rows["fitting step"]["value"])
  assert float(rows["fit"]["value"]) == pytest.approx(samples)
  assert "tensorflow 2." in rows["act"]["versions"] and rows["act"]["processor"]
  assert len(text.splitlines()) == 1 + len(parts)


def test_a_wrong_value_ends_with_one_line(tmp_path):
  file = ROOT / "gin" / "pendulum.gin"
  arguments = f"--gin_file={file}", "--scaling", "--gin_param=Maac.discount=2"
  code, _, error = commands.run("benchmark", *arguments, cwd=tmp_path)
  assert code == 1
  assert "Maac.discount must be a number from 0 to 0.99999, not 2" in error
  (tmp_path / "old.csv").write_text("of hours")
  code, _, error = commands.run("benchmark", "--peers", "--scaling", "--out=old.csv", cwd=tmp_path)
  assert code == 1 and (tmp_path / "old.csv").read_text() == "of hours"
  assert "leave out" in error.splitlines()[-1]
  code, _, error = commands.run("benchmark", "--replay_rows=10000,1e5", cwd=tmp_path)
  assert code == 1
  assert "--replay_rows must be numbers such as 10000,100000, not '1e5'" in error.splitlines()[-1]
  code, _, error = commands.run(
    "benchmark", "--part=update", f"--out={tmp_path}/no/x.csv", cwd=tmp_path
  )
  assert code == 1
  assert "no/x.csv" in error.splitlines()[-1]


def test_the_table_lines_up():
  lines = benchmark.table(
    [Row("a", "update", 12.345, "ms", 10.0, 1.2345, 4.09, 331.0, 0.75), Row("a", "act", 1e4, "/s")]
  ).splitlines()
  assert lines[0].split("  ")[0] == "setting"
  assert "12.3" in lines[1] and "1.23" in lines[1] and "0.75" in lines[1]
  assert "10,000" in lines[2]
  assert lines[1].index("12.3") + 4 == lines[2].index("10,000") + 6


@pytest.mark.parametrize("files", [*benchmark.STANDARD, benchmark.PEERS_FILES], ids=benchmark._name)
def test_its_own_settings_are_those_of_files_that_exist(files, capsys):
  config.load(files, TINY)
  make_trainer()
  assert capsys.readouterr().err == ""


def test_percentiles_are_of_the_calls_after_the_first(monkeypatch):
  """The clock of the wall goes on as the calls do, that of the processor by half."""
  wall = [0.0]
  took = iter([9.0, *(0.001 * (i + 1) for i in range(101))])

  def call():
    wall[0] += next(took)

  clocks = SimpleNamespace(perf_counter=lambda: wall[0], process_time=lambda: wall[0] / 2)
  monkeypatch.setattr(deployment, "time", clocks)
  found = deployment.percentiles(call, 101)
  of_wall = {"p50": 51.0, "p99": 100.0}
  of_processor = {f"{name} of processor time": value / 2 for name, value in of_wall.items()}
  assert found == pytest.approx(of_wall | of_processor)
