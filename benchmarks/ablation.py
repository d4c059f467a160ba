"""What the discriminator's regularisers and rewards are worth: GAIL with one thing changed; one CSV row a run.

python benchmarks/ablation.py --jobs 2
python benchmarks/ablation.py --envs HalfCheetah-v4 --seeds 100 --variants tuning --total-timesteps 200000

The second is how each option's strength was chosen: three values of each, on a seed that no table has.

A row holds the curve, as in imitation.py. "spread" is the standard deviation of the score over the last fifth of it.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from cells import Cell, Row, provenance, run_cells, settings_text
from imitation import PARTS, ROOT, Task, imitate
from imitation import TASKS as OF_THE_PAPER
from statistics_of_seeds import FEWEST, interquartile_mean, interval, interval_of_difference

if TYPE_CHECKING:
    from rlgen.imitation import Imitation

RESULTS = Path(__file__).parent / "results" / "ablation.csv"
ENVS = ("HalfCheetah-v4", "Ant-v4")  # one where an episode can't end early, and a larger one where it can
# And a task that no default was tuned on, from whole trajectories.
TASKS = OF_THE_PAPER | {"InvertedDoublePendulum-v5": Task((4,), 1, 200_000)}
NONE: dict[str, Any] = {"gradient_penalty_coef": 0.0}
# By name: what replaces the preset's values, which have the gradient penalty.
VARIANTS: dict[str, dict[str, Any]] = {
    "gradient penalty": {},
    "gradient penalty 0.03": {"gradient_penalty_coef": 0.03},
    "none": NONE,
    "spectral norm": NONE | {"spectral_norm": True},
    "label smoothing": NONE | {"expert_label": 0.9},
    "entropy bonus": NONE | {"entropy_coef": 0.1},
    "input noise": NONE | {"input_noise": 0.5},
    "dropout": NONE | {"dropout": 0.3},
    "historical averaging": NONE | {"historical_averaging": 0.001},
    "virtual batch norm": NONE | {"virtual_batch_norm": True},
    "minibatch features": NONE | {"minibatch_group": 8},
    "bottleneck": NONE | {"information_limit": 0.5},
    "reward feature matching": {"reward": "feature-matching"},
    "reward log D": {"reward": "log-d"},
    "reward -log(1-D)": {"reward": "softplus"},
    "no absorbing states": {"absorbing_states": False},
    "-log(1-D), no absorbing states": {"reward": "softplus", "absorbing_states": False},
}
# Three values of each one's strength; of what has none, of its penalty or step size.
TRIED: dict[str, tuple[str, tuple[float, float, float]]] = {
    "gradient penalty": ("gradient_penalty_coef", (0.03, 0.1, 0.3)),
    "none": ("learning_rate", (1e-3, 3e-3, 1e-2)),
    "historical averaging": ("historical_averaging", (0.001, 0.01, 0.1)),
    "virtual batch norm": ("learning_rate", (1e-3, 3e-3, 1e-2)),
    "minibatch features": ("minibatch_group", (4, 8, 16)),
    "bottleneck": ("information_limit", (0.1, 0.5, 2.0)),
    "reward feature matching": ("gradient_penalty_coef", (0.0, 0.1, 1.0)),
}
TUNING = {
    f"{variant}, {setting} {value:g}": VARIANTS[variant] | {setting: value}
    for variant, (setting, values) in TRIED.items()
    for value in values
}


def settings_of(cell: Cell) -> Imitation:
    """The preset with a variant's changes."""
    from rlgen import imitation

    settings = imitation.settings()
    changes = (VARIANTS | TUNING)[cell["variant"]]
    of_gail = {name: value for name, value in changes.items() if hasattr(settings.gail, name)}
    others = {name: value for name, value in changes.items() if name not in of_gail}
    learner = replace(settings.learner, total_timesteps=cell["total_timesteps"])
    return replace(settings, learner=learner, gail=replace(settings.gail, **of_gail), **others)


def run(cell: Cell) -> Row:
    """Train one cell."""
    import torch

    from rlgen.data.demonstrations import load_demonstrations

    torch.set_num_threads(1)
    demonstrations = load_demonstrations(ROOT / "expert_data", cell["env_id"], 4, cell["subsample"], seed=cell["seed"])
    return provenance() | imitate(cell, demonstrations, settings_of(cell))


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """One cell a run, its settings part of it."""
    cells: list[Cell] = []
    variants = list(TUNING) if options.variants == ["tuning"] else options.variants
    for env_id, seed, variant in itertools.product(options.envs, options.seeds, variants):
        cell: Cell = {
            "env_id": env_id,
            "algorithm": "GAIL",
            "algo": "trpo",
            "variant": variant,
            "seed": seed,
            "subsample": TASKS[env_id].subsample,
            "total_timesteps": int(options.total_timesteps or TASKS[env_id].steps),
            "threads": 1,
        }
        cells.append(cell | {"settings": settings_text(settings_of(cell))})
    return cells


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """One row a task and variant; `over` is the interval of the difference to the preset's interquartile mean.

    Of five seeds `low` and `high` are the lowest and the highest; under five there is none, and `by_seed` has each.
    """
    scores = table["normalised_score"].astype(float)
    last = table["curve"].map(lambda curve: np.std(np.array(curve.split()[-PARTS // 5 :], np.float64)))
    rows = []
    for (env_id, variant), group in table.groupby(["env_id", "variant"], sort=False):
        values = scores[group.index].to_numpy()
        low, high = interval(values)
        preset = scores[(table["env_id"] == env_id) & (table["variant"] == "gradient penalty")].to_numpy()
        compared = len(preset) > 0 and variant != "gradient penalty"
        over = interval_of_difference(values, preset) if compared else (np.nan, np.nan)
        row = {"env_id": env_id, "variant": variant, "seeds": len(values), "score": interquartile_mean(values)}
        row |= {"low": low, "high": high, "spread": last[group.index].mean()}
        row["by_seed"] = " ".join(f"{value:.3f}" for value in values) if len(values) < FEWEST else ""
        rows.append(row | {"over_low": over[0], "over_high": over[1]})
    return pd.DataFrame(rows)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=list(ENVS), choices=TASKS)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=[*VARIANTS, "tuning"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--total-timesteps", type=float, help="default: the task's")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--ray", metavar="ADDRESS", help="hand the runs to this Ray cluster; local starts one here")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    table = pd.DataFrame(run_cells(cells_of(options), run, options.output, options.jobs, options.ray))
    pd.options.display.width, pd.options.display.max_columns = 200, 20
    print(summarise(table).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
