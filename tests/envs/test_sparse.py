"""The sparse tasks: physics against exact laws, luck of a random policy, reach of a scripted one, gymnasium's rules."""

import math

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rlgen.envs import EXPLORATION_TASKS, BatchedMujocoEnv, BatchedOdeEnv, make_vec
from rlgen.envs.batched_ode import runge_kutta
from rlgen.envs.ode_tasks import SparseCartPoleSwingup, SparseMountainCar
from rlgen.errors import UsageError

CAR, SWINGUP, HARD = (f"rlgen/Sparse{name}-v0" for name in ("MountainCar", "CartPoleSwingup", "CartPoleSwingupHard"))
CHEETAH, GATHER = "rlgen/SparseHalfCheetah-v0", "rlgen/SwimmerGather-v0"


def first_episodes(env_id, n, policy, **arguments):
    """`(return [n], length [n], terminated [n])` of each environment's first episode, policy(obs, t) -> actions."""
    envs = make_vec(env_id, n, seed=0, n_threads=1, **arguments)
    obs, _ = envs.reset(seed=0)
    returns, lengths, terminations = np.zeros(n), np.zeros(n, int), np.zeros(n, bool)
    live = np.ones(n, bool)
    for t in range(500):
        obs, rewards, terminated, truncated, _ = envs.step(policy(obs, t).astype(np.float32))
        returns += live * rewards
        lengths += live
        terminations |= live & terminated
        live &= ~(terminated | truncated)
    assert not live.any()
    return returns, lengths, terminations


def random_policy(size):
    rng = np.random.default_rng(1)
    return lambda obs, t: rng.uniform(-1, 1, (len(obs), size))


# Luck of uniformly random actions.


@pytest.mark.parametrize(("env_id", "size", "episodes"), [(CAR, 1, 400), (CHEETAH, 6, 20), (GATHER, 2, 6)])
def test_random_actions_find_nothing(env_id, size, episodes):
    returns, lengths, _ = first_episodes(env_id, episodes, random_policy(size))
    assert not returns.any()
    assert (lengths == 500).all()


def test_random_actions_find_the_original_swing_up_by_its_start_and_hardly_the_hard_one():
    assert 4 <= (first_episodes(SWINGUP, 400, random_policy(1))[0] > 0).sum() <= 24
    assert (first_episodes(HARD, 400, random_policy(1))[0] > 0).sum() <= 2


def test_without_damping_random_actions_find_the_hill():
    assert (first_episodes(CAR, 400, random_policy(1), damping=0.0)[0] > 0).sum() >= 12


# Reach of scripted policies.


def test_bang_bang_climbs_the_hill():
    returns, lengths, terminated = first_episodes(CAR, 50, lambda obs, t: np.where(obs[:, 1:] >= 0, 1, -1))
    assert (returns == 1).all()
    assert terminated.all()
    assert 65 <= lengths.mean() <= 80
    assert lengths.max() <= 85
    assert gym.spec(CAR).reward_threshold == 1


def test_the_dense_hill_pays_height():
    sparse, dense = (make_vec(env_id, 20, seed=0) for env_id in (CAR, "rlgen/DenseMountainCar-v0"))
    obs, _ = sparse.reset(seed=0)
    dense.reset(seed=0)
    for _ in range(60):
        obs, _, goal, _, infos = sparse.step(np.where(obs[:, 1:] >= 0, 1, -1).astype(np.float32))
        theirs, rewards, terminated, _, _ = dense.step(np.where(dense.state[1, :, None] >= 0, 1, -1).astype(np.float32))
        after = np.where(goal, infos["final_obs"][:, 0] if goal.any() else 0, obs[:, 0])
        np.testing.assert_allclose(rewards, -1 + (1 - np.cos(np.pi / 2 * after)))
        np.testing.assert_array_equal(obs, theirs)
        np.testing.assert_array_equal(goal, terminated)


@pytest.mark.parametrize("env_id", [SWINGUP, HARD])
def test_pumping_and_catching_swings_up_and_stays(env_id):
    task = EXPLORATION_TASKS[env_id]()

    def policy(obs, t):
        if env_id == HARD:
            x, velocity, cos, sin, spin = obs.T
        else:
            x, velocity, theta, spin = obs.T
            cos, sin = np.cos(theta), np.sin(theta)
        weight = task.pole_mass * 10 * task.to_centre
        energy = task.pole_inertia * spin**2 / 2 + weight * (cos - 1)  # 0 at rest upright
        pump = 1.1 * (np.clip(-20 * energy, -4, 4) * np.sign(spin * cos) - 2 * x - velocity)
        catch = 1.36 * x + 3.23 * velocity - 37.2 * np.arctan2(sin, cos) - 9.42 * spin  # poles at -1, -1.1, -4, -4.5
        return np.clip(np.where(cos > 0.85, catch, pump) / task.force, -1, 1)[:, None]

    returns, _, terminated = first_episodes(env_id, 20, policy)
    assert not terminated.any()
    assert returns.min() > 400
    assert returns.mean() == pytest.approx(gym.spec(env_id).reward_threshold, rel=0.02)


def test_a_scripted_gait_runs_past_five_metres():
    amplitude, offset = np.array([1.5, 1, 1, 0.6, 0.6, 0.7]), np.array([-0.3, 0.2, -0.3, -0.1, -0.2, -0.1])
    gait = [np.clip(offset + amplitude * np.sin(0.2 * t + np.array([1, 4, 2.5, 4, 4, 4])), -1, 1) for t in range(500)]
    returns, _, terminated = first_episodes(CHEETAH, 4, lambda obs, t: np.tile(gait[t], (4, 1)))
    assert returns.min() > 150
    assert returns.mean() == pytest.approx(gym.spec(CHEETAH).reward_threshold, rel=0.05)
    assert not terminated.any()


def test_half_cheetah_pays_beyond_the_goal_only():
    envs = BatchedMujocoEnv(CHEETAH, 3, 1)
    envs.reset(seed=0)
    envs.sim.qpos[:, 0] += 4.95 - envs.sim.derived["subtree_com"][:, 1, 0]
    envs.sim.qvel[:, 0] = [1.0, 0.0, -1.0]  # 5 cm to go
    pays = np.zeros((30, 3))
    for t in range(30):
        obs, pays[t], terminated, truncated, _ = envs.step(np.zeros((3, 6), np.float32))
        np.testing.assert_array_equal(pays[t] == 1, obs[:, 17] > 5)
        assert not (terminated | truncated).any()
    assert pays[:2, 0].sum() == 0
    assert pays[-1].tolist() == [1, 0, 0]


def test_a_swimming_gait_catches_what_lies_ahead():
    envs = BatchedMujocoEnv(GATHER, 2, 1)
    envs.reset(seed=0)
    lie = envs.sim.derived["userdata"]
    lie[:] = 0
    for row, thing in ((0, 0), (1, 8)):  # an apple; a bomb
        lie[row, [thing, 32 + thing]] = 2, 1
    first = {}
    for t in range(400):
        phase = 2 * np.pi * 0.35 * t * 0.05
        gait = np.tile([np.sin(phase), np.sin(phase - 0.9)], (2, 1)).astype(np.float32)
        _, rewards, terminated, _, infos = envs.step(gait)
        for row in np.flatnonzero(terminated):
            first.setdefault(row, (rewards[row], infos["final_obs"][row]))
        if len(first) == 2:
            break
    assert [first[0][0], first[1][0]] == [1, -1]
    for _, final_obs in first.values():  # the episode ended for want of things to catch, and none is sensed
        assert 1 < final_obs[10] < 2
        assert not final_obs[13:].any()


# Physics.


def test_cart_pole_accelerates_as_in_mujoco():
    model = mujoco.MjModel.from_xml_string("""
        <mujoco><option gravity="0 0 -10"/><default><geom contype="0" conaffinity="0"/></default><worldbody>
          <body><joint name="rail" type="slide" axis="1 0 0"/><geom type="sphere" size="0.1" mass="1"/>
            <body><joint type="hinge" axis="0 -1 0"/>
              <geom type="box" pos="0 0 0.5" size="0.05 0.05 0.5" mass="0.1"/></body>
          </body></worldbody><actuator><motor joint="rail"/></actuator></mujoco>
        """)
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    states, forces = rng.uniform(-4, 4, (4, 50)), rng.uniform(-10, 10, 50)
    ours = SparseCartPoleSwingup().derivative(states, forces)
    for state, force, derivative in zip(states.T, forces, ours.T, strict=True):
        data.qpos[:], data.qvel[:], data.ctrl[:] = state[[0, 2]], state[[1, 3]], force
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(derivative[[1, 3]], data.qacc, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(derivative[[0, 2]], data.qvel)


def car_energy(state, mass=0.4):
    x, v = state
    return mass * (v**2 / 2 + 10 * (1 - np.cos(np.pi * x / 2)))


def test_the_car_stays_on_its_track_and_balances_its_power():
    rng = np.random.default_rng(0)
    state, force = rng.uniform(-2, 2, (2, 50)), rng.uniform(-1, 1, 50)
    task = SparseMountainCar()
    dx, dv = task.derivative(state, force)
    x, v = state
    dy = np.pi / 2 * np.sin(np.pi * x / 2) * dx
    np.testing.assert_allclose(dx**2 + dy**2, v**2)
    # dE/dt: the force's work less what the damping takes. In one dimension this is the equation of motion.
    np.testing.assert_allclose(0.4 * (v * dv + 10 * dy), (force - 0.4 * 0.65 * v) * v, atol=1e-12)
    np.testing.assert_allclose(task.observe(state), np.stack((x, dx), axis=1))


def pole_energy(state):
    _, velocity, theta, spin = state
    inertia = 0.1 * 1.01 / 12 + 0.1 * 0.5**2
    kinetic = 1.1 * velocity**2 / 2 - 0.05 * velocity * spin * np.cos(theta) + inertia * spin**2 / 2
    return kinetic + 0.5 * np.cos(theta)


@pytest.mark.parametrize(
    ("task", "energy"), [(SparseMountainCar(damping=0.0), car_energy), (SparseCartPoleSwingup(), pole_energy)]
)
def test_unforced_energy_is_kept_as_the_step_shrinks(task, energy):
    rng = np.random.default_rng(0)
    start = np.stack([task.draw(rng) for _ in range(50)], axis=1)
    rest = np.zeros(50)

    def drift(dt, seconds=4):
        state = start
        for _ in range(round(seconds / dt)):
            state = runge_kutta(lambda s: task.derivative(s, rest), state, dt)
        return np.abs(energy(state) - energy(start)).max()

    assert drift(task.dt) < 1e-4  # J, of about 1
    assert drift(task.dt / 2) < drift(task.dt) / 10
    assert drift(task.dt / 16) < 1e-9


def test_damping_takes_energy():
    task = SparseMountainCar()
    state = np.array([[0.0], [1.0]])
    energies = []
    for _ in range(100):
        energies.append(car_energy(state).item())
        state = runge_kutta(lambda s: task.derivative(s, np.zeros(1)), state, task.dt)
    assert (np.diff(energies) < 0).all()


@pytest.mark.parametrize("env_id", [CHEETAH, GATHER])
def test_the_centre_of_mass_is_of_the_state_after_the_step(env_id):
    envs = BatchedMujocoEnv(env_id, 1)
    model = envs.task.model()
    data = mujoco.MjData(model)
    envs.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(5):
        obs = envs.step(rng.uniform(-1, 1, envs.action_space.shape).astype(np.float32))[0]
        data.qpos[:], data.qvel[:] = envs.sim.qpos[0], envs.sim.qvel[0]
        mujoco.mj_forward(model, data)
        positions = data.qpos if env_id == GATHER else data.qpos[1:]
        own = np.concatenate((positions, data.qvel, data.subtree_com[1]))
        np.testing.assert_allclose(obs[0, : len(own)], own, rtol=0, atol=1e-12)


def test_the_swimmer_is_rllabs():
    model = BatchedMujocoEnv(GATHER, 1).task.model()
    assert (model.opt.timestep, model.opt.density, model.opt.viscosity) == (0.001, 4000, 0.1)
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
    assert model.actuator_gear[:, 0].tolist() == [50, 50]
    assert model.actuator_ctrlrange.tolist() == [[-1, 1], [-1, 1]]
    assert not model.dof_armature.any()


# Gathering.


def test_things_lie_apart_on_the_grid():
    envs = BatchedMujocoEnv(GATHER, 200, 1)
    envs.reset(seed=0)
    x, y, there = np.split(envs.sim.derived["userdata"], 3, axis=1)
    assert (there == 1).all()
    assert all(len(set(zip(*row, strict=True))) == 16 for row in zip(x, y, strict=True))
    assert set(np.unique(x)) == set(np.unique(y)) == {-6, -4, -2, 0, 2, 4}
    assert np.hypot(x, y).min() == 2


def sensors(x, y, heading, things):
    """The sensors as a loop over things, farthest first: a nearer one overwrites."""
    readings = np.zeros((2, 10))
    for kind, tx, ty in sorted(things, key=lambda thing: -math.hypot(thing[1] - x, thing[2] - y)):
        distance = math.hypot(tx - x, ty - y)
        angle = math.remainder(math.atan2(ty - y, tx - x) - heading, 2 * math.pi)
        if 1 <= distance <= 6 and abs(angle) <= math.pi / 2:
            readings[kind, min(int((angle + math.pi / 2) / (math.pi / 10)), 9)] = 1 - distance / 6
    return readings.ravel()


def test_sensors_and_catches_beside_a_loop():
    envs = BatchedMujocoEnv(GATHER, 30, 1)
    envs.reset(seed=0)
    rng = np.random.default_rng(0)
    envs.sim.qpos[:, :2] = rng.uniform(-6, 5, (30, 2))
    envs.sim.qpos[:, 2] = rng.uniform(-9, 9, 30)
    before = envs.sim.derived["userdata"].copy()
    obs, rewards, *_ = envs.step(np.zeros((30, 2), np.float32))
    assert np.unique(rewards).size > 2
    for row in range(30):
        things = [(j // 8, before[row, j], before[row, 16 + j]) for j in range(16)]
        x, y = obs[row, 10:12]
        np.testing.assert_allclose(obs[row, 13:], sensors(x, y, obs[row, 2], things), atol=1e-12)
        near = [kind for kind, tx, ty in things if math.hypot(tx - x, ty - y) < 1]
        assert rewards[row] == near.count(0) - near.count(1)
        assert envs.sim.derived["userdata"][row, 32:].sum() == 16 - len(near)
    assert not envs.step(np.zeros((30, 2), np.float32))[1].any()  # nothing is caught twice


# Gymnasium's rules.


@pytest.mark.parametrize("env_id", EXPLORATION_TASKS)
def test_gymnasiums_checker(env_id):
    check_env(gym.make(env_id, disable_env_checker=True).unwrapped)


def actions_for(env_id, obs, rng, size):
    return np.where(obs[:, 1:] >= 0, 1.2, -1.2) if env_id == CAR else rng.uniform(-1.2, 1.2, (len(obs), size))


@pytest.mark.parametrize("n_envs", [1, 5])
@pytest.mark.parametrize(
    ("env_id", "steps", "limit"),
    [(CAR, 300, 70), (SWINGUP, 200, 60), (HARD, 200, 60), (CHEETAH, 60, 25), (GATHER, 25, 10)],
)
def test_rows_are_single_environments_to_the_last_bit(env_id, steps, limit, n_envs):
    envs = make_vec(env_id, n_envs, max_episode_steps=limit)
    alone = [gym.make(env_id, max_episode_steps=limit) for _ in range(n_envs)]
    obs, infos = envs.reset(seed=3)
    assert infos == {}
    assert obs.dtype == np.float64
    np.testing.assert_array_equal(obs, [env.reset(seed=3 + i)[0] for i, env in enumerate(alone)])
    assert envs.single_observation_space == alone[0].observation_space
    assert envs.single_action_space == alone[0].action_space
    rng = np.random.default_rng(0)
    ends = np.zeros(2, int)
    for _ in range(steps):
        actions = actions_for(env_id, obs, rng, envs.single_action_space.shape[0]).astype(np.float32)
        obs, rewards, terminated, truncated, infos = envs.step(actions)
        done = terminated | truncated
        assert set(infos) == ({"final_obs", "_final_obs", "final_info", "_final_info"} if done.any() else set())
        for i, env in enumerate(alone):
            own, reward, *flags, _ = env.step(actions[i])
            assert (reward, flags) == (rewards[i], [terminated[i], truncated[i]])
            if done[i]:
                np.testing.assert_array_equal(infos["final_obs"][i], own)
                assert infos["_final_obs"][i]
                own, _ = env.reset()
            np.testing.assert_array_equal(obs[i], own)
        ends += terminated.sum(), truncated.sum()
    assert ends[1] > 0
    assert (ends[0] > 0) == (env_id in (CAR, SWINGUP, HARD))


def test_a_goal_reached_on_the_last_step_is_both_terminated_and_truncated():
    def bang_bang(limit):
        envs = BatchedOdeEnv(CAR, 1, max_episode_steps=limit)
        obs, _ = envs.reset(seed=0)
        for t in range(1, 500):
            obs, rewards, terminated, truncated, _ = envs.step(np.where(obs[:, 1:] >= 0, 1, -1))
            if terminated or truncated:
                return t, rewards.item(), terminated.item(), truncated.item()
        raise AssertionError("the hill was not climbed")

    length, *outcome = bang_bang(-1)
    assert outcome == [1, True, False]
    assert bang_bang(length) == (length, 1, True, True)
    assert bang_bang(length - 1) == (length - 1, 0, False, True)


@pytest.mark.parametrize("env_id", EXPLORATION_TASKS)
def test_the_seed_fixes_everything(env_id):
    def rollout(seed):
        envs = make_vec(env_id, 3, seed=seed, max_episode_steps=8)
        rng = np.random.default_rng(0)
        size = envs.single_action_space.shape[0]
        return np.stack([envs.step(rng.uniform(-1, 1, (3, size)).astype(np.float32))[0] for _ in range(20)])

    first = rollout(4)
    np.testing.assert_array_equal(first, rollout(4))
    assert (first != rollout(5)).any(axis=(1, 2)).all()


def test_made_in_every_way(caplog):
    with caplog.at_level("INFO", "rlgen"):
        assert isinstance(make_vec(CAR, 2, seed=0, n_threads=2), BatchedOdeEnv)
        assert isinstance(make_vec(GATHER, 2, seed=0, n_threads=1), BatchedMujocoEnv)
    assert f"{CAR}: 2 environments by BatchedOdeEnv" in caplog.text
    assert f"{GATHER}: 2 environments by BatchedMujocoEnv" in caplog.text
    for env_id in EXPLORATION_TASKS:
        envs = gym.make_vec(env_id, num_envs=2)
        assert type(envs) is type(make_vec(env_id, 2))
        assert envs.max_episode_steps == gym.spec(env_id).max_episode_steps == 500
        np.testing.assert_array_equal(envs.reset(seed=1)[0], make_vec(env_id, 2).reset(seed=1)[0])
    assert gym.make(CHEETAH, goal=3.0).unwrapped.envs.task.goal == 3
    with pytest.raises(UsageError, match=r"has no argument gravity; it has damping, force"):
        make_vec(CAR, 1, gravity=3)
