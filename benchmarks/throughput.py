"""How fast environments step and learners train, as ratios to the raw `mj_step` limit and to peers in the same run.

    python benchmarks/throughput.py                      # everything: about 20 minutes on two cores
    python benchmarks/throughput.py --sections stepping --repeats 3

Rows of a section are interleaved, round by round; a ratio is the median of the rounds' paired ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import peer
from cells import provenance

if TYPE_CHECKING:
    import gymnasium as gym

    from rlgen.imitation import Imitation
    from rlgen.nn.policy import Policy
    from rlgen.presets import Learner
    from rlgen.types import RewardModel

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
ENVS = ["HalfCheetah-v4", "Hopper-v4", "Walker2d-v4", "Ant-v4", "Humanoid-v4"]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
STOP = float("inf")
"""No further row is measured after this time of `time.perf_counter`; those without any are empty."""
Measure = Callable[[], float]
ON_POLICY = ("trpo", "ppo")


class OutOfTime(Exception):
    """SIGTERM came; what was measured is still to be saved."""


def stop(*_: object) -> None:
    """Measure no more."""
    global STOP
    STOP = 0.0
    raise OutOfTime


def interleave(rows: dict[str, Measure], reference: str, repeats: int) -> pd.DataFrame:
    """Run every row once a round; steps per second as median and 20th to 80th percentile, and ratios to `reference`."""
    rounds = pd.DataFrame(float("nan"), range(repeats), list(rows))
    for number, (name, measure) in itertools.product(range(repeats), rows.items()):
        with contextlib.suppress(OutOfTime):
            if time.perf_counter() < STOP:
                rounds.loc[number, name] = measure()
    ratios = rounds.div(rounds[reference], axis=0)
    table = pd.DataFrame(
        {
            "steps_per_second": rounds.median(),
            "p20": rounds.quantile(0.2),
            "p80": rounds.quantile(0.8),
            f"ratio to {reference}": ratios.median(),
        }
    )
    return table.rename_axis("row")


def harvested_states(env_id: str, count: int = 3000) -> tuple:
    """Model, frame skip and integration states of gymnasium's own random-policy run: the contact load of real use."""
    import gymnasium as gym
    import mujoco

    env = gym.make(env_id)
    env.reset(seed=0)
    env.action_space.seed(0)
    inner = env.unwrapped
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    states = np.empty((count, mujoco.mj_stateSize(inner.model, kind)))
    for i in range(count):
        action = env.action_space.sample()
        inner.data.ctrl[:] = action
        mujoco.mj_getState(inner.model, inner.data, states[i], kind)
        if any(env.step(action)[2:4]):
            env.reset()
    return inner.model, inner.frame_skip, states


def raw_limit(env_id: str, threads: int, seconds: float) -> Measure:
    """`mj_step` alone from harvested states, one control step each, in the engine's C loop on `threads` threads."""
    from mujoco.batch import Batch

    model, frame_skip, states = harvested_states(env_id)
    batch = Batch(model, len(states), threads)

    def measure() -> float:
        steps, passed = 0, 0.0
        while passed < seconds:
            batch.state[:] = states
            started = time.perf_counter()
            batch.step(nstep=frame_skip)
            passed += time.perf_counter() - started
            steps += len(states)
        return steps / passed

    return measure


def closed_loop(envs: Any, n_envs: int, seconds: float) -> Measure:
    """Steps a second of a gymnasium or SB3 vector environment with random actions, resets included."""
    envs.reset()
    space = getattr(envs, "single_action_space", envs.action_space)
    rng = np.random.default_rng(0)
    actions = rng.uniform(space.low, space.high, (64, n_envs, *space.shape)).astype(np.float32)

    def measure() -> float:
        steps, started = 0, time.perf_counter()
        while (passed := time.perf_counter() - started) < seconds:
            envs.step(actions[steps % 64])
            steps += 1
        return steps * n_envs / passed

    return measure


def stepping(repeats: int, seconds: float) -> pd.DataFrame:
    """Environment stepping against the raw limit."""
    import gymnasium as gym
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

    from rlgen.envs import make_vec

    gym.logger.min_level = gym.logger.ERROR
    tables = []
    for env_id in ENVS:
        raw = f"raw mj_step, {CORES} threads"
        rows: dict[str, Measure] = {
            "raw mj_step, 1 thread": raw_limit(env_id, 1, seconds),
            raw: raw_limit(env_id, CORES, seconds),
        }
        for n in (16, 64, 256):
            rows[f"rlgen, n={n}"] = closed_loop(make_vec(env_id, n), n, seconds)
        for n in (8, 16):
            rows[f"gymnasium sync, n={n}"] = closed_loop(gym.make_vec(env_id, n, "sync"), n, seconds)
            rows[f"gymnasium async, n={n}"] = closed_loop(gym.make_vec(env_id, n, "async"), n, seconds)
            rows[f"SB3 DummyVecEnv, n={n}"] = closed_loop(make_vec_env(env_id, n, vec_env_cls=DummyVecEnv), n, seconds)
            subprocesses = make_vec_env(env_id, n, vec_env_cls=SubprocVecEnv)
            rows[f"SB3 SubprocVecEnv, n={n}"] = closed_loop(subprocesses, n, seconds)
            if find_spec("envpool"):
                import envpool

                pool = envpool.make_gymnasium(env_id, num_envs=n, num_threads=CORES)
                rows[f"envpool, n={n}"] = closed_loop(pool, n, seconds)
        tables.append(interleave(rows, raw, repeats).assign(env_id=env_id).reset_index())
    return pd.concat(tables)


def whole_iterations(
    env_id: str,
    learner: Learner,
    make_reward: Callable[[gym.vector.VectorEnv, Policy], RewardModel],
    threads: int | None = None,
    device: str = "cpu",
    steps: int = 30_000,
) -> Measure:
    """Whole iterations (collect, reward, update) of one of our learners, of at least `steps` steps in all."""
    import torch

    from rlgen.envs import make_vec
    from rlgen.train import keep_freed_memory

    keep_freed_memory()
    envs = make_vec(env_id, learner.n_envs, 0, n_threads=threads)
    training = learner.training(envs, make_reward, device=device)
    training.n_iterations = max(2, -(-steps // training.steps_per_iteration))

    def measure() -> float:
        torch.set_num_threads(threads or CORES)
        training.done, training.wall_seconds = 0, 0.0
        iterations = list(training)
        measure.parts = iterations[-1].seconds  # type: ignore[attr-defined]
        return iterations[-1].env_steps / iterations[-1].wall_seconds

    return measure


def ours(
    settings: Learner | Imitation, threads: int | None = None, device: str = "cpu", steps: int = 30_000
) -> Measure:
    """A learner on HalfCheetah-v4, with the task's reward or GAIL's."""
    from rlgen.data.demonstrations import load_demonstrations
    from rlgen.imitation import gail
    from rlgen.presets import Learner
    from rlgen.rewards.environment import EnvironmentReward

    env_id = "HalfCheetah-v4"
    if isinstance(settings, Learner):
        return whole_iterations(env_id, settings, lambda envs, policy: EnvironmentReward(), threads, device, steps)
    demonstrations = load_demonstrations(ROOT / "expert_data", env_id, 4, 20)

    def make_reward(envs: gym.vector.VectorEnv, policy: Policy) -> RewardModel:
        return gail(settings, policy, settings.expert(envs, policy, demonstrations))

    return whole_iterations(env_id, settings.learner, make_reward, threads, device, steps)


def sb3(learner: type, n_envs: int, n_steps: int, **settings: object) -> Measure:
    """Whole iterations of an SB3 learner on HalfCheetah-v4, with its own vector environment."""
    import torch
    from stable_baselines3.common.env_util import make_vec_env

    model = learner("MlpPolicy", make_vec_env("HalfCheetah-v4", n_envs), n_steps=n_steps, device="cpu", **settings)
    model.learn(1)

    def measure() -> float:
        torch.set_num_threads(CORES)
        started, steps = time.perf_counter(), n_envs * n_steps
        model.learn(steps)
        return steps / (time.perf_counter() - started)

    return measure


def imitation_peer(learner: str) -> Measure:
    """HumanCompatibleAI/imitation's GAIL."""
    peer.python()

    def measure() -> float:
        try:
            return float(peer.ask("imitation_peer.py", learner)["steps_per_second"])
        except RuntimeError as error:
            print(f"its row is empty: {error}", file=sys.stderr)
            return float("nan")

    return measure


def training(repeats: int, seconds: float) -> pd.DataFrame:
    """Whole training, against peers."""
    from sb3_contrib import TRPO
    from stable_baselines3 import PPO

    from rlgen import imitation, presets
    from rlgen.optim.ppo import PPOConfig
    from rlgen.optim.trpo import TRPOConfig
    from rlgen.rewards.gail import GAILConfig

    env_id = "HalfCheetah-v4"
    paper = imitation.settings("paper")
    sb3_ppo = PPOConfig(learning_rate=3e-4, least_share=1.0, n_epochs=10, batch_size=64)
    contrib_trpo = TRPOConfig(cg_max_steps=15, n_critic_updates=10, batch_size=128)
    # The peer's: SB3's optimizers, and 16 discriminator steps of 1,024 + 1,024 rows without penalty.
    discriminator = GAILConfig(learning_rate=1e-3, n_updates=16, gradient_penalty_coef=0.0)

    def as_peer(optimizer: PPOConfig | TRPOConfig) -> Measure:
        return ours(replace(paper, learner=replace(paper.learner, optimizer=optimizer), gail=discriminator))

    raw = f"raw mj_step, {CORES} threads"
    rows = {
        raw: raw_limit(env_id, CORES, seconds),
        "rlgen GAIL-TRPO, paper preset (2x100, batch 50,048)": ours(paper),
        "rlgen GAIL-TRPO, imitation's settings (2x100, batch 50,048)": as_peer(contrib_trpo),
        "rlgen GAIL-PPO, imitation's settings (2x100, batch 50,048)": as_peer(sb3_ppo),
        "rlgen GAIL-TRPO, default": ours(imitation.settings()),
        "rlgen GAIL-PPO, default": ours(imitation.settings("default", "ppo")),
        "rlgen TRPO": ours(presets.LEARNERS["trpo"]),
        "rlgen PPO": ours(presets.LEARNERS["ppo"]),
        "rlgen PPO, SB3's settings (8 x 2048, 64, 10)": ours(
            replace(presets.LEARNERS["ppo"], optimizer=sb3_ppo, n_envs=8, n_steps=2048)
        ),
        "SB3 PPO (8 x 2048, 64, 10)": sb3(PPO, 8, 2048),
        "sb3-contrib TRPO (8 x 2048)": sb3(TRPO, 8, 2048),
        "imitation GAIL-TRPO (2x100, batch 50,000)": imitation_peer("trpo"),
        "imitation GAIL-PPO (2x100, batch 50,000)": imitation_peer("ppo"),
    }
    table = interleave(rows, raw, repeats).reset_index()
    for name, measure in rows.items():
        for part, value in getattr(measure, "parts", {}).items():
            table.loc[table.row == name, f"last iteration, seconds of {part}"] = round(value, 3)
    return table


def off_policy(repeats: int, seconds: float, names: Sequence[str] = ("cpu",), steps: int = 500) -> pd.DataFrame:
    """Environment steps a second with one update a step, after the first random ones, on one thread.

    "SB3's settings" are two layers of 256 units, minibatches of 256, a rate of 3e-4 and an initial temperature of 1.
    """
    import torch
    from stable_baselines3 import SAC

    from rlgen import imitation, presets
    from rlgen.data.demonstrations import load_demonstrations
    from rlgen.envs import make_vec
    from rlgen.optim.svg import SVGConfig
    from rlgen.presets import OffPolicyLearner
    from rlgen.rewards.environment import EnvironmentReward

    torch.set_num_threads(1)
    env_id = "HalfCheetah-v4"
    demonstrations = load_demonstrations(ROOT / "expert_data", env_id, 4, 20)

    def goes_on(settings: OffPolicyLearner | imitation.Imitation, device: str) -> Measure:
        learner = settings if isinstance(settings, OffPolicyLearner) else settings.learner
        envs = make_vec(env_id, learner.n_envs, 0, n_threads=1)

        def make_reward(envs: gym.vector.VectorEnv, policy: Policy) -> RewardModel:
            if isinstance(settings, OffPolicyLearner):
                return EnvironmentReward()
            return imitation.gail(settings, policy, settings.expert(envs, policy, demonstrations))

        examples = None if isinstance(settings, OffPolicyLearner) else demonstrations.fitted_to(envs).transitions
        examples = examples and examples.apply(lambda x: x.to(device))
        iterations = iter(replace(learner, learning_starts=1000).training(envs, make_reward, 0, device, examples))
        for _ in range(11):
            next(iterations)

        def measure() -> float:
            started, n = time.perf_counter(), steps // 100
            for _ in range(n):
                next(iterations)
            return 100 * n / (time.perf_counter() - started)

        return measure

    def of_sb3(net_arch: Sequence[int], batch_size: int, device: str) -> Measure:
        kwargs = {"net_arch": list(net_arch)}
        model = SAC("MlpPolicy", env_id, batch_size=batch_size, policy_kwargs=kwargs, device=device, seed=0)
        model.learn(200)

        def measure() -> float:
            started = time.perf_counter()
            model.learn(steps, reset_num_timesteps=False)
            return steps / (time.perf_counter() - started)

        return measure

    task = presets.EXPERT["sac"]
    told = SVGConfig(horizon=0, batch_size=256, learning_rate=3e-4, tau=0.005, alpha=1.0, entropy_target=-1.0)
    rows: dict[str, Measure] = {}
    for device in names or ("cpu", *["cuda"] * torch.cuda.is_available()):
        rows[f"SB3 SAC, 2 x 256, {device}"] = of_sb3((256, 256), 256, device)
        rows[f"rlgen SAC, SB3's settings, {device}"] = goes_on(
            replace(task, optimizer=told, net_arch=(256, 256), scale_rewards=False), device
        )
        rows[f"SB3 SAC, 2 x 128, batch 128, {device}"] = of_sb3((128, 128), 128, device)
        for algo in ("sac", "svg"):
            rows[f"rlgen GAIL by {algo.upper()}, default, {device}"] = goes_on(
                imitation.settings("default", algo), device
            )
        svg = imitation.settings("default", "svg")
        longer = replace(svg.learner, optimizer=replace(svg.learner.optimizer, horizon=4))
        rows[f"rlgen GAIL by SVG, H 4, {device}"] = goes_on(replace(svg, learner=longer), device)
        rows[f"rlgen SAC, default of rlgen expert, {device}"] = goes_on(task, device)
    return interleave(rows, next(iter(rows)), repeats).reset_index()


def scaling(repeats: int, seconds: float) -> pd.DataFrame:
    """Growth with environments, batch and threads."""
    from rlgen import imitation, presets
    from rlgen.envs import make_vec

    raw = f"raw mj_step, {CORES} threads"
    rows: dict[str, Measure] = {raw: raw_limit("HalfCheetah-v4", CORES, seconds)}
    paper = imitation.settings("paper")
    for threads in dict.fromkeys((1, CORES)):
        for n in (4, 16, 64, 256, 1024):
            envs = make_vec("HalfCheetah-v4", n, n_threads=threads)
            rows[f"stepping, n={n}, {threads} threads"] = closed_loop(envs, n, seconds)
        for name in ON_POLICY:
            rows[f"{name.upper()}, default, {threads} threads"] = ours(presets.LEARNERS[name], threads)
        rows[f"GAIL-TRPO, paper preset, {threads} threads"] = ours(paper, threads)
    for n, n_steps in ((8, 1024), (64, 128), (256, 32), (256, 196)):
        rows[f"GAIL-TRPO, paper preset, n={n}, batch {n * n_steps}"] = ours(
            replace(paper, learner=replace(paper.learner, n_envs=n, n_steps=n_steps))
        )
        for name in ON_POLICY:
            learner = replace(presets.LEARNERS[name], n_envs=n, n_steps=n_steps)
            rows[f"{name.upper()}, n={n}, batch {n * n_steps}"] = ours(learner)
    return interleave(rows, raw, repeats).reset_index()


def threads(repeats: int, seconds: float) -> pd.DataFrame:
    """Stepping with every number of threads, each against the raw limit of as many."""
    from rlgen.envs import make_vec

    env_id, tables = "HalfCheetah-v4", []
    for count in (n for n in (1, 2, 4, 8, 16) if n <= CORES):
        rows: dict[str, Measure] = {"raw mj_step": raw_limit(env_id, count, seconds)}
        for n in (64, 256, 1024):
            rows[f"rlgen, n={n}"] = closed_loop(make_vec(env_id, n, n_threads=count), n, seconds)
        tables.append(interleave(rows, "raw mj_step", repeats).assign(threads=count).reset_index())
    return pd.concat(tables)


def devices(repeats: int, seconds: float, width: int, names: Sequence[str] = (), steps: int = 30_000) -> pd.DataFrame:
    """Whole training with two layers of `width` units, by default on the CPU and, where there is one, the GPU."""
    import torch

    from rlgen import imitation, presets

    raw = f"raw mj_step, {CORES} threads"
    rows: dict[str, Measure] = {raw: raw_limit("HalfCheetah-v4", CORES, seconds)}
    gail = imitation.settings()
    net_arch = (width, width)
    for device in names or ("cpu", *["cuda"] * torch.cuda.is_available()):
        for name in ON_POLICY:
            row = f"{name.upper()}, {width}x{width}, {device}"
            rows[row] = ours(replace(presets.LEARNERS[name], net_arch=net_arch), None, device, steps)
        wide = replace(gail, learner=replace(gail.learner, net_arch=net_arch), net_arch=net_arch)
        rows[f"GAIL-TRPO, {width}x{width}, {device}"] = ours(wide, None, device, steps)
    return interleave(rows, raw, repeats).reset_index()


def exploration(repeats: int, seconds: float) -> pd.DataFrame:
    """Whole training with each bonus on the sparse half-cheetah, 5,000 steps an iteration."""
    from rlgen import exploration as presets

    env_id = "rlgen/SparseHalfCheetah-v0"

    def with_bonus(name: str) -> Measure:
        told = presets.settings("trpo", env_id, name)
        make, config = presets.BONUSES[name], told.bonus
        return whole_iterations(
            env_id, told.learner, lambda envs, policy: presets.reward_model(envs, "cpu", make, config)
        )

    rows = {name: with_bonus(name) for name in presets.BONUSES if not presets.settings("trpo", env_id, name).codes}
    table = interleave(rows, "none", repeats).reset_index()
    for name, measure in rows.items():
        for part, value in measure.parts.items():  # type: ignore[attr-defined]
            table.loc[table.row == name, f"last iteration, seconds of {part}"] = round(value, 3)
    return table


def information_gain(repeats: int, seconds: float) -> pd.DataFrame:
    """Information gains a second for a 26-32-20 network and 5,000 transitions, against per-row gradients."""
    import torch
    from torch.func import functional_call, grad, vmap

    from rlgen.nn.bayesian import BayesianNetwork

    torch.set_num_threads(CORES)
    n_rows, width = 5000, 32
    network = BayesianNetwork(26, 20, (width,))
    inputs, targets, noise = torch.randn(n_rows, 26), torch.randn(n_rows, 20), torch.randn(n_rows, width)
    tau2 = network.likelihood_variance.detach()

    class RowLoss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = network.layers

        def forward(self, x: torch.Tensor, y: torch.Tensor, zeta: torch.Tensor) -> torch.Tensor:
            hidden, output = self.layers
            mean, variance, _ = hidden.units(x.expand(1, 1, -1))
            mean, variance, _ = output.units((mean + variance.sqrt() * zeta).relu())
            return (((mean - y).square() + variance) / (2 * tau2)).sum()

    loss = RowLoss()
    parameters = {name: p.detach() for name, p in loss.named_parameters()}
    stds = [layer.std.detach() for layer in network.layers]
    slopes = [torch.sigmoid(layer.rho.detach()) for layer in network.layers]
    curvatures = [c for std, slope in zip(stds, slopes, strict=True) for c in (std**-2, 2 * (slope / std) ** 2)]

    def of_gradients(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        return sum((g.square() / c).flatten(-2).sum(-1) for g, c in zip(gradients, curvatures, strict=True)) / 2

    per_row = grad(lambda p, x, y, zeta: functional_call(loss, p, (x, y, zeta)))

    def with_vmap(chunk: int) -> Callable[[int], torch.Tensor]:
        mapped = vmap(lambda p, *row: of_gradients(list(per_row(p, *row).values())), (None, 0, 0, 0), chunk_size=chunk)
        return lambda n: mapped(parameters, inputs[:n], targets[:n], noise[:n])

    def one_by_one(n: int) -> torch.Tensor:
        weights = list(loss.parameters())
        rows = zip(inputs[:n], targets[:n], noise[:n], strict=True)
        return torch.stack([of_gradients(torch.autograd.grad(loss(*row), weights)) for row in rows])

    def rate(gains: Callable[[int], torch.Tensor], n: int) -> Measure:
        def measure() -> float:
            done, started = 0, time.perf_counter()
            while (passed := time.perf_counter() - started) < seconds:
                gains(n)
                done += n
            return done / passed

        return measure

    agree = with_vmap(500)(500)
    torch.testing.assert_close(agree, one_by_one(500), rtol=1e-3, atol=0)
    factorised = "rlgen, factorised"
    rows = {factorised: rate(lambda n: network.information_gain(inputs[:n], targets[:n]), n_rows)}
    for chunk in (250, 500, 1000, 2500, 5000):
        rows[f"vmap(grad), chunks of {chunk}"] = rate(with_vmap(chunk), n_rows)
    rows["one backward pass a row"] = rate(one_by_one, 200)
    return interleave(rows, factorised, repeats).reset_index()


def memory(repeats: int, seconds: float) -> pd.DataFrame:
    """Peak resident memory of GAIL-TRPO with 64 environments and a batch of 50,048, in a fresh process."""
    code = (
        "import throughput as t; from rlgen import imitation;"
        "t.ours(imitation.settings('paper'))(); print(t.peak_memory())"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    return pd.DataFrame(
        [{"row": "GAIL-TRPO, 64 envs, batch 50,048", "peak_resident_GiB": float(output.stdout.split()[-1])}]
    )


def peak_memory() -> float:
    """This process's peak resident memory in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


SECTIONS = {
    "stepping": stepping,
    "training": training,
    "off_policy": off_policy,
    "exploration": exploration,
    "information_gain": information_gain,
    "scaling": scaling,
    "threads": threads,
    "devices_64": partial(devices, width=64),
    "devices_512": partial(devices, width=512),
    "memory": memory,
}


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", default=list(SECTIONS), choices=SECTIONS)
    parser.add_argument("--repeats", type=int, default=5, help="rounds; each row runs once a round")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each stepping row and round")
    parser.add_argument("--stop-after", type=float, help="seconds after which a section measures no further row")
    parser.add_argument("--steps", type=int, default=30_000, help="of each row and round in the sections devices_*")
    parser.add_argument(
        "--devices",
        nargs="+",
        choices=["cpu", "cuda"],
        default=[],
        help="those of the sections devices_* and off_policy",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    options = parser.parse_args()
    pd.options.display.width, pd.options.display.max_columns, pd.options.display.max_rows = 200, 20, 200
    told = {"names": options.devices, "steps": options.steps}
    signal.signal(signal.SIGTERM, stop)
    sections = {name: partial(f, **told) if name.startswith("devices") else f for name, f in SECTIONS.items()}
    sections["off_policy"] = partial(off_policy, names=options.devices or ("cpu",))
    for section in options.sections:
        if options.stop_after is not None:
            global STOP
            STOP = time.perf_counter() + options.stop_after
        table = sections[section](options.repeats, options.seconds)
        facts = provenance()
        options.results.mkdir(parents=True, exist_ok=True)
        table.round(4).assign(**facts).to_csv(options.results / f"throughput_{section}.csv", index=False)
        print(f"\n{section}\n{table.round(3).to_string(index=False)}")


if __name__ == "__main__":
    main()
