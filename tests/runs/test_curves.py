"""Curves over seeds against closed forms, and the command that draws them."""

import numpy as np
import pytest

from maac_tf.runs import curves, plotting
from tests import commands


@pytest.mark.parametrize(
  ("path", "task", "method", "seed"),
  [
    ("runs/suite/hopper_v5/Maac.horizon=3-12", "hopper_v5", "Maac.horizon=3", "12"),
    ("results/ant/without_2_seed0", "ant", "without_2", "0"),
    ("results/ant/seed4", "ant", "maac", "4"),
    ("runs/hopper/7-20261123-051200", "hopper", "maac", "7"),
    ("runs/hopper/first", "hopper", "first", ""),
    ("runs/hopper/h3", "hopper", "h3", ""),
    ("runs/hopper/episodes_of_250", "hopper", "episodes_of_250", ""),
  ],
)
def test_task_method_and_seed_are_those_of_the_path(tmp_path, path, task, method, seed):
  _write(tmp_path / path, [(1, 2)])
  run = curves.read_run(str(tmp_path / path))
  assert (run.task, run.method, run.seed) == (task, method, seed)


def _write(folder, rows):
  folder.mkdir(parents=True)
  lines = ["env_steps,eval/return,other,seconds/total"]
  lines += [f"{steps},{value},3,{steps * 36}" for steps, value in rows]
  (folder / "metrics.csv").write_text("\n".join(lines))


def test_rows_without_an_evaluation_are_no_points(tmp_path):
  _write(tmp_path / "a" / "b-0", [(100, ""), (200, -5.5), (300, ""), (400, 7)])
  with (tmp_path / "a" / "b-0" / "metrics.csv").open("a") as file:
    file.write("\n500,8")  # cut off in mid-write
  run = curves.read_run(str(tmp_path / "a" / "b-0"))
  np.testing.assert_array_equal(run.steps, [200, 400])
  np.testing.assert_array_equal(run.hours, [2, 4])
  np.testing.assert_array_equal(run.returns, [-5.5, 7])
  assert run.left_out == 1


def test_evaluations_that_are_no_number_are_left_out_and_counted(tmp_path):
  _write(tmp_path / "a" / "b-0", [(100, 1), (200, "nan"), (300, 3), (400, "inf")])
  run = curves.read_run(str(tmp_path / "a" / "b-0"))
  np.testing.assert_array_equal(run.steps, [100, 300])
  np.testing.assert_array_equal(run.returns, [1, 3])
  assert run.left_out == 2


def test_runs_are_cut_off_by_environment_steps():
  run = curves.until(_run([1, 2, 3], [4, 5, 6]), 2)
  np.testing.assert_array_equal([run.steps, run.hours, run.returns], [[1, 2], [1, 2], [4, 5]])


def test_band_is_the_interquartile_mean_where_all_have_values():
  x = np.array([0.0, 10.0, 20.0])
  values = np.array([[0, 1, 2], [2, 3, 4], [4, 8, 9], [-1000, 1000, 5]], float)
  lines = [(x, v) for v in values[:3]] + [(x[:2], values[3, :2])]  # the last one is shorter
  band = curves.band(lines)
  np.testing.assert_array_equal(band.x, [0, 10])
  np.testing.assert_allclose(band.mean, [1, 5.5])  # of the middle two
  assert np.all(band.low < band.mean) and np.all(band.mean < band.high)
  assert np.all(band.low >= values[:, :2].min(0)) and np.all(band.high <= values[:, :2].max(0))


def test_band_of_many_seeds_has_the_width_of_the_normal_interval():
  values = np.random.default_rng(0).normal(3.0, 1.0, 400)
  band = curves.band([(np.zeros(1), np.array([v])) for v in values])
  # The variance of an interquartile mean of normals is 1.19 / N (asymptotically).
  assert band.high[0] - band.low[0] == pytest.approx(2 * 1.96 * np.sqrt(1.19 / 400), rel=0.15)
  assert band.low[0] < 3.0 < band.high[0]


def test_band_joins_different_places_by_lines():
  band = curves.band([(np.array([0.0, 4.0]), np.array([0.0, 4.0])), (np.array([1.0, 3.0]),) * 2])
  np.testing.assert_allclose(band.x, [1, 3])
  np.testing.assert_allclose(band.mean, [1, 3])


def test_band_of_one_seed_has_no_width_and_of_disjoint_ones_is_none():
  one = np.array([1.0, 2.0]), np.array([5.0, 6.0])
  for values in curves.band([one])[1:]:
    np.testing.assert_array_equal(values, one[1])
  assert curves.band([one, (np.array([3.0]), np.array([1.0]))]) is None


def _run(steps, returns):
  return curves.Run("ant", "maac", "0", np.array(steps), np.array(steps), np.array(returns, float))


def test_mean_return_is_of_the_steps_that_all_runs_have():
  runs = [_run([1, 2, 3, 4], [9, 1, 3, 9]), _run([2, 3], [5, 6]), _run([0, 2.5, 9], [7, 8, 8])]
  steps = curves.common_steps(runs)
  np.testing.assert_array_equal(steps, [2, 2.5, 3])
  means = [curves.mean_return(run, steps) for run in runs]
  np.testing.assert_allclose(means, [2, 5.5, (7.8 + 8 + 8) / 3])
  assert not curves.common_steps([*runs, _run([10], [0])]).size


def test_means_are_drawn_best_on_top(tmp_path, monkeypatch):
  from matplotlib import pyplot as plt

  monkeypatch.setattr(plt, "close", lambda figure: None)
  groups = {
    ("ant", "good"): [_run([1, 2], [8, 10]), _run([1, 2], [10, 12])],
    ("ant", "bad"): [_run([1, 2, 3], [1, 3, 99])],
    ("hopper", "bad"): [_run([1], [0]), _run([2], [0])],
  }
  plotting.plot_means(groups, [str(tmp_path / "means.png")])
  ant, hopper = plt.gcf().axes
  assert [label.get_text() for label in ant.get_yticklabels()] == ["bad", "good"]

  def drawn(marker):
    return [list(line.get_xdata()) for line in ant.lines if line.get_marker() == marker]

  assert drawn("o") == [[2], [9, 11]]  # seeds
  assert drawn("|") == [[2], [10]]  # their mean
  assert ant.get_title() == "ant: 1 to 2 steps"
  assert hopper.get_title() == "hopper: no steps in common"


def test_command_draws_every_run_below_its_folders(tmp_path):
  for seed, length in ((0, 3), (1, 2)):
    _write(tmp_path / "runs" / "ant" / f"sac-{seed}", [(i, i) for i in range(length)])
  _write(tmp_path / "runs" / "hopper" / "maac-0", [(1, 1), (2, 2)])
  _write(tmp_path / "runs" / "hopper" / "begun-0", [(1, "")])
  (tmp_path / "runs" / "other").mkdir()
  (tmp_path / "runs" / "other" / "metrics.csv").write_text("a,b\n1,2\n")
  code, out, err = commands.run("plot", "runs", "--out=new/figure", cwd=tmp_path)
  assert code == 0, err
  ends = "the mean ends with the shortest, at"
  assert f"ant: sac: 2 runs (seed 0, 1); {ends} 1 of 2 steps; {ends} 0.01 of 0.02 hours" in out
  assert "Left out: runs/hopper/begun-0: no evaluation yet." in out
  assert "Left out: runs/other: its metrics.csv is not that of a run: it has no column env" in out
  for name in ("new/figure", "new/figure_hours", "new/figure_means"):
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / f"{name}.svg").read_text()
  code, _, err = commands.run("plot", "runs", "rums", cwd=tmp_path)
  assert code == 1 and "there is none in rums." in err


def test_command_draws_named_methods_up_to_some_steps(tmp_path):
  for name, steps in (("a-0", (100, 200, 300)), ("b=c-0", (100, 200)), ("late-0", (400,))):
    _write(tmp_path / "ant" / name, [(i, i) for i in steps])
  code, out, err = commands.run(
    "plot", "MAAC=ant/a-0", "ant/b=c-0", "ant/late-0", "--env_steps=200", cwd=tmp_path
  )
  assert code == 0, err
  assert "ant: MAAC: 1 run (seed 0)\nant: b=c: 1 run (seed 0)\n" in out
  assert "Left out: ant/late-0: no evaluation so early." in out
  assert "Left out: what comes after 200 steps, of 2 runs." in out
  figure = (tmp_path / "curves.svg").read_text()
  assert "MAAC (n = 1)" in figure and "b=c (n = 1)" in figure
  code, _, err = commands.run("plot", "MAAC=ant/x", cwd=tmp_path)
  assert code == 1 and "there is none in ant/x." in err
  code, _, err = commands.run("plot", "MAAC=ant", "SAC=ant/a-0", cwd=tmp_path)
  assert code == 1 and "ant/a-0 is given as MAAC and as SAC." in err
