"""Where sparse MountainCar is visited with VIME and without: the same learner and seed, the same number of steps.

    python benchmarks/visited_states.py

Houthooft et al. (2016) show such a figure for their agent; here position and speed of the first five iterations, which
end about where VIME meets its first reward.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from rlgen import exploration
from rlgen.data.collect import Collector
from rlgen.envs import make_vec
from rlgen.files import write_atomically
from rlgen.nn.policy import Actor
from rlgen.types import Rollout

ENV_ID = "rlgen/SparseMountainCar-v0"
RESULT = Path(__file__).parent / "results" / "visited_states.png"


class RecordingCollector(Collector):
    """A collector that keeps the observations."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.visited: list[npt.NDArray[np.float32]] = []

    def collect(self, actor: Actor) -> Rollout:
        """Collect as usual."""
        rollout = super().collect(actor)
        self.visited.append(rollout.transitions.next_obs.flatten(0, 1).numpy())
        return rollout


def visit(bonus: str, seed: int, total_timesteps: int) -> npt.NDArray[np.float32]:
    """States `[n, 2]`: position in m, speed in m/s."""
    import torch

    torch.manual_seed(seed)
    settings = exploration.settings("trpo", ENV_ID, bonus)
    learner, config = settings.learner, settings.bonus
    envs = make_vec(ENV_ID, learner.n_envs, seed)
    learner = replace(learner, total_timesteps=total_timesteps)
    make = exploration.BONUSES[bonus]
    training = learner.training(envs, lambda envs, policy: exploration.reward_model(envs, "cpu", make, config), seed)
    training.collector = collector = RecordingCollector(envs, learner.n_steps)
    for _ in training:
        pass
    return np.concatenate(collector.visited)


def main() -> None:
    """Train both and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--total-timesteps", type=int, default=25_000)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    figure = Figure(figsize=(9, 4), layout="constrained")
    both = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, (bonus, title) in zip(both, {"none": "TRPO", "vime": "TRPO + VIME"}.items(), strict=True):
        states = visit(bonus, options.seed, options.total_timesteps)
        axes.scatter(*states.T, s=1, alpha=0.3, rasterized=True)
        axes.axvline(0.6, color="gray", linestyle="--", linewidth=1)
        axes.set(title=title, xlabel="position, m")
        cells = np.unique(np.floor(states / 0.1), axis=0)
        print(f"{title}: position {states[:, 0].min():.2f} to {states[:, 0].max():.2f} m, {len(cells)} cells of 0.1")
    both[0].set_ylabel("speed, m/s")
    figure.suptitle(f"states of the first {options.total_timesteps:,} steps, seed {options.seed}")
    write_atomically(options.output, lambda file: figure.savefig(file, format="png", dpi=120))


if __name__ == "__main__":
    main()
