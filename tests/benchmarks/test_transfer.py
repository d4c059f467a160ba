"""The models that a recovered reward is moved to."""

import mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco.mujoco_env import expand_model_path
from transfer import DYNAMICS, model_file

from rlgen.envs import make_vec


def test_dynamics_change_what_they_say_and_the_task_takes_them(tmp_path):
    recorded, lighter, lame = (
        mujoco.MjModel.from_xml_path(str(model_file(dynamics, tmp_path))) for dynamics in DYNAMICS
    )
    assert recorded.opt.gravity[2] == pytest.approx(-9.81)
    assert lighter.opt.gravity[2] == pytest.approx(-9.81 / 2)
    np.testing.assert_array_equal(lighter.actuator_gear, recorded.actuator_gear)
    share = lame.actuator_gear[:, 0] / recorded.actuator_gear[:, 0]
    np.testing.assert_allclose(share, [1, 1, 1, 0.25, 0.25, 0.25])
    original = mujoco.MjModel.from_xml_path(expand_model_path("half_cheetah.xml"))
    for name in ("body_mass", "body_inertia", "geom_size", "dof_damping", "jnt_range", "actuator_gear"):
        np.testing.assert_allclose(getattr(recorded, name), getattr(original, name), rtol=1e-5, atol=1e-8)
    kwargs = {"xml_file": str(model_file(DYNAMICS[1], tmp_path))}
    ours, theirs = (make_vec("HalfCheetah-v5", 1, seed=0, env_kwargs=kwargs) for kwargs in (kwargs, {}))
    action = np.zeros_like(ours.action_space.sample())
    assert abs(ours.step(action)[0] - theirs.step(action)[0]).max() > 1e-3
