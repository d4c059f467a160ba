"""Look at demonstrations, check them, and convert them between packages.

python scripts/data.py inspect expert_data/HalfCheetah-v4
python scripts/data.py convert hopper_expert-v2.hdf5 --env Hopper-v4 --output my_experts/
python scripts/data.py convert expert_data/Hopper-v4 --to minari --output ~/.minari/datasets/hopper-expert-v0
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from rlgen.command import default, environment_id
from rlgen.errors import UsageError
from rlgen.files import printable

if TYPE_CHECKING:
    from rlgen.data.formats.recording import Recording

Input = Annotated[Path, tyro.conf.Positional]
Inputs = Annotated[tuple[Path, ...], tyro.conf.Positional]


@dataclass(frozen=True, kw_only=True)
class _Source:
    path: Input
    """A dataset of ours or of Minari, imitation, D4RL, Stable-Baselines, baselines, or Ho & Ermon's code."""
    env: Annotated[str | None, default("what the file tells")] = None
    """Gymnasium id, with its version."""


class Inspect(_Source):
    """Tell what a file or folder holds."""


class Validate(_Source):
    """Check everything that training relies on: spaces, bounds, lengths, ends, finite values, checksums."""


@dataclass(frozen=True, kw_only=True)
class Convert(_Source):
    """Convert to a dataset of ours, or from one to another package's format."""

    output: Path
    """Ours goes to a folder of the environment's name in this one; of another format this is the file or folder."""
    to: Literal["rlgen", "minari", "imitation", "d4rl", "sb3"] = "rlgen"
    """The format to write. That of Minari is a folder whose name has a version, as hopper-expert-v0."""
    clip_actions: bool = False
    """Clip actions to the environment's bounds, as it does. By default those outside are refused."""
    deterministic: Annotated[bool | None, default("unknown")] = None
    """Whether the expert acted by its mode."""
    overwrite: bool = False
    """Replace a dataset of ours that is there already."""


@dataclass(frozen=True)
class Merge:
    """Put the episodes of several files of one environment into one dataset of ours."""

    paths: Inputs
    """As for inspect, of any formats."""
    output: Path
    """The dataset goes to a folder of the environment's name in this one."""
    env: Annotated[str | None, default("what the files tell")] = None
    """Gymnasium id, with its version."""
    clip_actions: bool = False
    """As for convert."""
    overwrite: bool = False
    """Replace a dataset that is there already."""


Arguments = Inspect | Validate | Convert | Merge


def describe(source: Recording) -> str:
    """What people ask of a dataset, one line each."""
    import numpy as np

    from rlgen.data.demonstrations import failed_episodes

    episodes = source.episodes
    returns = [episode.total_reward for episode in episodes]
    lengths = [len(episode.actions) for episode in episodes]
    obs = np.concatenate([episode.obs.reshape(len(episode.obs), -1) for episode in episodes])
    actions = np.concatenate([episode.actions.reshape(len(episode.actions), -1) for episode in episodes])
    terminated = sum(episode.terminated for episode in episodes)
    without = sum(len(episode.obs) == len(episode.actions) for episode in episodes)
    guessed = (
        ", by their lengths: the file doesn't tell" if source.env_id else " or unknown: --env tells the time limit"
    )
    lines = {
        "format": source.format,
        "environment": source.env_id or "not told; --env tells it",
        "episodes": f"{len(episodes)}, {len(failed_episodes(returns))} of them failed (far below the median); "
        f"{source.n_incomplete} incomplete ones left out",
        "steps": f"{sum(lengths):,}; {min(lengths)} to {max(lengths)} an episode",
        "return": f"{np.mean(returns):.1f} +- {np.std(returns):.1f}; {min(returns):.1f} to {max(returns):.1f}",
        "ends": f"{terminated} terminated, {len(episodes) - terminated} truncated"
        + ("" if source.tells_ends else guessed),
        "observations": f"{episodes[0].obs.shape[1:]}, {obs.min():.4g} to {obs.max():.4g}"
        + (f"; the final one is missing in {without} episodes" if without else ""),
        "actions": f"{episodes[0].actions.shape[1:]} {episodes[0].actions.dtype}, {actions.min():.4g} to "
        f"{actions.max():.4g}",
    }
    lines |= {
        name: str(source.manifest[name]) for name in ("algorithm", "command", "source") if name in source.manifest
    }
    return "\n".join(f"{name:<13} {printable(value)}" for name, value in lines.items())


def main(arguments: Arguments) -> None:
    """Do what the arguments are of."""
    from rlgen.data import formats
    from rlgen.data.convert import OURS, load_source, save_as, save_dataset
    from rlgen.data.demonstrations import dataset_folder, load_all
    from rlgen.run_log import command_line

    env_id = None if arguments.env is None else environment_id(arguments.env)
    paths = arguments.paths if isinstance(arguments, Merge) else (arguments.path,)
    if not paths:
        raise UsageError("tell the files to merge")
    if isinstance(arguments, Inspect | Validate) and dataset_folder(arguments.path, env_id) is not None:
        # Without making episodes of it, which a dataset of single pairs has none of.
        pairs = load_all(arguments.path, env_id)
        if isinstance(arguments, Validate):
            print(f"{arguments.path}: valid; {len(pairs.episode_returns)} episodes of {pairs.env_id}")
            return
        if pairs.subsample > 1:
            print(pairs)
            return
    sources = [load_source(path, env_id) for path in paths]
    for source in sources:
        if source.n_incomplete:
            print(f"{source.path}: {source.n_incomplete} incomplete episodes left out", file=sys.stderr)
    if isinstance(arguments, Inspect):
        print(describe(sources[0]))
        return
    if isinstance(arguments, Convert) and arguments.to != OURS:
        if arguments.overwrite or arguments.deterministic is not None:
            flag = "overwrite" if arguments.overwrite else "deterministic"
            raise UsageError(f"--{flag} has no effect with --to {arguments.to}")
        kind = next(kind for kind in formats.WRITABLE if arguments.to == kind.NAME)
        save_as(sources[0], arguments.output.expanduser(), kind, arguments.clip_actions)
        print(f"{arguments.output}: {len(sources[0].episodes)} episodes of {sources[0].env_id} for {kind.NAME}")
        return
    if isinstance(arguments, Validate):
        print(f"{arguments.path}: valid; {len(save_dataset(sources, None))} episodes of {sources[0].env_id}")
        return
    folder = arguments.output / (sources[0].env_id or "")
    if (folder / "manifest.json").exists() and not arguments.overwrite:
        raise FileExistsError(f"{folder} holds a dataset; choose another --output, or --overwrite it")
    deterministic = arguments.deterministic if isinstance(arguments, Convert) else None
    episodes = save_dataset(
        sources,
        arguments.output,
        command=command_line(),
        clip_actions=arguments.clip_actions,
        deterministic=deterministic,
    )
    print(f"{folder}: {len(episodes)} episodes")
