"""The double integrator of section 5.2: a point mass pushed towards the origin."""

from typing import Any

import gymnasium as gym
import numpy as np

DT = 0.05  # s


class DoubleIntegrator(gym.Env):
  """s = (position, velocity); s' = s + dt (velocity, action).

  The reward -1/2 (position² + velocity² + action²) is that of the state *before* the step. Any
  action is allowed. Episodes start uniformly in [-1, 1]² and never terminate.
  """

  observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
  action_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)

  def reset(
    self, *, seed: int | None = None, options: dict[str, Any] | None = None
  ) -> tuple[np.ndarray, dict[str, Any]]:
    super().reset(seed=seed)
    self._state = self.np_random.uniform(-1.0, 1.0, 2)
    return self._state.copy(), {}

  def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
    position, velocity = self._state
    force = float(action[0])
    reward = -0.5 * (position**2 + velocity**2 + force**2)
    self._state = np.array([position + DT * velocity, velocity + DT * force])
    return self._state.copy(), reward, False, False, {}
