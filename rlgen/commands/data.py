"""Look at demonstrations, check them, and convert them between packages.

python scripts/data.py inspect expert_data/HalfCheetah-v4
python scripts/data.py convert hopper_expert-v2.hdf5 --env Hopper-v4 --output my_experts/
python scripts/data.py convert robot.csv --name my_robot --obs joint_pos --actions torque --output my_experts/
python scripts/data.py convert expert_data/Hopper-v4 --to minari --output ~/.minari/datasets/hopper-expert-v0
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from rlgen.command import JsonObject, default, environment_id
from rlgen.errors import UsageError
from rlgen.files import printable, short

if TYPE_CHECKING:
    from rlgen.data.formats.log import LogMapping
    from rlgen.data.formats.recording import Recording

NONE = default("none")
NAMES = tyro.conf.arg(metavar="NAME ...")
SPACES = ("obs. space", "action space")
# Flags of `Convert` that are fields of a log's mapping.
COLUMNS = ("obs", "actions", "next_obs", "rewards", "terminated", "truncated", "done", "episode", "label", "episodes")

Input = Annotated[Path, tyro.conf.Positional]
Inputs = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(help_behavior_hint="(required)")]


@dataclass(frozen=True, kw_only=True)
class _Source:
    path: Input
    """A dataset of ours or of Minari, imitation, D4RL, Stable-Baselines, baselines, or Ho & Ermon's code. Of a log
    (CSV, Parquet, npz, npy, HDF5) inspect lists the columns, and convert reads those that --obs and other flags name,
    for --env or for a robot without an environment, --name."""
    env: Annotated[str | None, default("what the file tells")] = None
    """Gymnasium id, with its version."""


class Inspect(_Source):
    """Tell what a file or folder holds; of a folder of datasets, a table of them."""


class Validate(_Source):
    """Check spaces, bounds, lengths, ends, finite values and checksums."""


@dataclass(frozen=True, kw_only=True)
class Convert(_Source):
    """Convert to a dataset of ours, from one, or from a log such as a CSV."""

    output: Path
    """Ours goes to a folder of the environment's name in this one; of another format this is the file or folder."""
    env_kwargs: Annotated[JsonObject, NONE] = None
    """Constructor arguments of --env as a JSON object, such as '{"forward_reward_weight": -1}'."""
    to: Literal["rlgen", "minari", "imitation", "d4rl", "sb3"] = "rlgen"
    """The format to write. That of Minari is a folder whose name has a version, as hopper-expert-v0."""
    name: Annotated[str | None, NONE] = None
    """Name of a log that no environment belongs to, in place of --env; its spaces are those of its values."""
    mapping: Annotated[Path | None, NONE] = None
    """TOML file with the columns of a log, as obs = ["x", "y"]; a flag replaces its entry."""
    obs: Annotated[tuple[str, ...], NAMES, NONE] = ()
    """Columns of a log that are observations, in the environment's order. joint_pos is the column or array of that
    name, else the columns joint_pos_0, joint_pos_1 and so on; in HDF5 an array goes by its path, as obs/joint_pos. PATH
    is a file, or a folder with a file per episode."""
    actions: Annotated[tuple[str, ...], NAMES, NONE] = ()
    """Columns that are the executed actions; without them only gail --state-only learns from the dataset."""
    next_obs: Annotated[tuple[str, ...], NAMES, NONE] = ()
    """Columns that are the next observations, of which an episode's last one is kept."""
    rewards: Annotated[str | None, NONE] = None
    """Column of rewards; without it there is no expert's return and no score."""
    terminated: Annotated[str | None, NONE] = None
    """Column that is 1 in the last row of an episode that ended in the task's own sense."""
    truncated: Annotated[str | None, NONE] = None
    """Column that is 1 in the last row of an episode that was cut, as by a time limit."""
    done: Annotated[str | None, NONE] = None
    """Column that is 1 in the last row of an episode, in a log that doesn't tell how episodes end."""
    episode: Annotated[str | None, NONE] = None
    """Column whose value changes where an episode begins."""
    label: Annotated[str | None, NONE] = None
    """Column with the mode that an episode is of, such as who demonstrates it: a whole number from 0, or -1 where it
    isn't known. `rlgen gail --codes N --labels` learns from it."""
    episodes: Annotated[str | None, tyro.conf.arg(metavar="PATTERN"), NONE] = None
    """Groups of an HDF5 file that hold an episode each, such as `data/*`; columns are then named by their path inside
    a group, such as obs/joint_pos."""
    clip_actions: bool = False
    """Clip actions to their bounds, as environments do, rather than refuse those outside."""
    keep_actions: bool = False
    """Widen the bounds of the dataset's actions rather than refuse those outside; GAIL needs the environment's."""
    skip_broken: bool = False
    """Leave out episodes that hold NaN or whose arrays don't fit together, and count them."""
    deterministic: Annotated[bool | None, default("unknown")] = None
    """Whether the expert acted by its mode."""
    overwrite: bool = False
    """Replace a dataset of ours that is there already."""


@dataclass(frozen=True)
class Merge:
    """Put the episodes of several files of one environment into one dataset of ours."""

    paths: Inputs
    """Files and folders to merge, each of any format that inspect reads."""
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

    from rlgen.data.demonstrations import failed_episodes, with_kwargs
    from rlgen.data.formats.log import listed

    episodes = source.episodes
    returns = [episode.total_reward for episode in episodes]
    lengths = [len(episode.actions) for episode in episodes]
    obs = np.concatenate([episode.obs.reshape(len(episode.obs), -1) for episode in episodes])
    actions = np.concatenate([episode.actions for episode in episodes])
    terminated = sum(episode.terminated for episode in episodes)
    without = sum(len(episode.obs) == len(episode.actions) for episode in episodes)
    guessed = (
        ", by their lengths: the file doesn't tell" if source.env_id else " or unknown: --env tells the time limit"
    )
    if source.names:
        guessed = "; the log doesn't tell which"
    names = {part: f" of {listed(columns)}" for part, columns in source.names.items()}
    lines = {
        "format": source.format,
        "environment": with_kwargs(source.env_id or "not told; --env tells it", source.manifest.get("env_kwargs")),
        "episodes": f"{len(episodes)}, {len(failed_episodes(returns))} of them failed (far below the median); "
        f"{source.n_incomplete} incomplete ones left out",
        "steps": f"{sum(lengths):,}; {min(lengths)} to {max(lengths)} an episode",
        "return": "unknown: no rewards"
        if np.isnan(returns).all()
        else f"{np.mean(returns):.1f} +- {np.std(returns):.1f}; {min(returns):.1f} to {max(returns):.1f}",
        "ends": f"{terminated} terminated, {len(episodes) - terminated} truncated"
        + ("" if source.tells_ends else guessed),
        "observations": f"{episodes[0].obs.shape[1:]}, {obs.min():.4g} to {obs.max():.4g}"
        + names.get("obs", "")
        + (f"; the final one is missing in {without} episodes" if without else ""),
        "actions": f"{actions.shape[1:]} {actions.dtype}, {actions.min():.4g} to {actions.max():.4g}"
        + names.get("actions", "")
        if actions.size
        else "none: states alone",
    }
    lines |= {
        name: str(source.manifest[name]) for name in ("algorithm", "command", "source") if name in source.manifest
    }
    return "\n".join(f"{name:<13} {printable(value)}" for name, value in lines.items())


def table(folder: Path) -> str:
    """The datasets in a folder, by their manifests, in Markdown."""
    import numpy as np

    from rlgen.data.demonstrations import failed_episodes, open_dataset, with_kwargs

    lines = ["| dataset | expert | episodes | return | acting |", "|---|---|---|---|---|"]
    for path in sorted(folder.glob("*/manifest.json")):
        _, told = open_dataset(path.parent, None)
        trained = told.get("trained", {})
        expert = told["algorithm"].upper()
        if "env_steps" in trained:
            expert += f", {trained['env_steps'] / 1e6:.2g}M steps"
        if (origin := trained.get("env_id", told["env_id"])) != told["env_id"]:
            expert += f", in {origin}"
        failed = len(failed_episodes(told["returns"]))
        episodes = f"{told['n_episodes']}" + (f" ({failed} failed)" if failed else "")
        if "episodes.npz" not in told["sha256"]:
            episodes += ", recorded on first use"
        mean, std = (short(float(x)) for x in (np.mean(told["returns"]), np.std(told["returns"])))
        acting = {True: "deterministic", False: "stochastic", None: "unknown"}[told["deterministic"]]
        dataset = with_kwargs(told["env_id"], told.get("env_kwargs"))
        lines.append(f"| {dataset} | {printable(expert)} | {episodes} | {mean} ± {std} | {acting} |")
    return "\n".join(lines)


def main(arguments: Arguments) -> None:
    """Do what the arguments are of."""
    from rlgen.data import formats
    from rlgen.data.convert import OURS, load_source, log_spaces, save_as, save_dataset
    from rlgen.data.demonstrations import dataset_folder, load_all
    from rlgen.run_log import command_line

    env_id = None if arguments.env is None else environment_id(arguments.env)
    paths = arguments.paths if isinstance(arguments, Merge) else (arguments.path,)
    if not paths:
        raise UsageError("tell the files to merge")
    one = dataset_folder(paths[0], env_id) is not None
    if isinstance(arguments, Inspect) and not one and env_id is None and any(paths[0].glob("*/manifest.json")):
        print(table(paths[0]))
        return
    if isinstance(arguments, Inspect | Validate) and one:
        # Without making episodes of it, which a dataset of single pairs has none of.
        pairs = load_all(arguments.path, env_id)
        if isinstance(arguments, Validate):
            print(f"{arguments.path}: valid; {len(pairs.episode_returns)} episodes of {pairs.env_id}")
            return
        if pairs.subsample > 1:
            print(pairs)
            return
    mapping, spaces = None, None
    options: dict[str, Any] = {}
    if isinstance(arguments, Convert):
        if arguments.env_kwargs is not None and arguments.env is None:
            raise UsageError("--env-kwargs is of --env, an environment's id")
        mapping = _mapping(arguments)
        kwargs = arguments.env_kwargs
        options = {"mapping": mapping, "skip_broken": arguments.skip_broken, "env_kwargs": kwargs}
    sources = [load_source(path, env_id, **options) for path in paths]
    for source in sources:
        if source.n_incomplete:
            print(f"{source.path}: {source.n_incomplete} incomplete episodes left out", file=sys.stderr)
        if source.broken:
            told = f"{len(source.broken)} broken episodes left out; the first: {source.broken[0]}"
            print(printable(f"{source.path}: {told}"), file=sys.stderr)
    if mapping is not None and not (mapping.ends or paths[0].is_dir()) and len(sources[0].episodes) == 1:
        n_steps = len(sources[0].episodes[0].actions)
        print(
            f"{sources[0].path}: one episode of {n_steps:,} steps, since nothing tells where others begin; --episode "
            "names a column that changes there, --terminated, --truncated or --done one that is 1 at an end, and "
            "--episodes groups of HDF5",
            file=sys.stderr,
        )
    if mapping is not None and isinstance(arguments, Convert) and arguments.name is not None:
        sources = [replace(sources[0], env_id=arguments.name)]
        spaces = log_spaces(sources[0], mapping)
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
        keep_actions=isinstance(arguments, Convert) and arguments.keep_actions,
        deterministic=deterministic,
        spaces=spaces,
    )
    print(f"{folder}: {len(episodes)} episodes")
    if mapping is not None:
        print(describe(replace(sources[0], episodes=episodes)))
    if spaces is not None:
        print("\n".join(printable(f"{name:<13} {space}") for name, space in zip(SPACES, spaces, strict=True)))


def _mapping(arguments: Convert) -> LogMapping | None:
    """The columns that the file and the flags tell of; None where neither does, and the path is no log."""
    from rlgen.data.convert import check_log_name
    from rlgen.data.formats.log import mapping_of, read_mapping

    told = {} if arguments.mapping is None else read_mapping(arguments.mapping.expanduser())
    flags = {name: value for name in COLUMNS if (value := getattr(arguments, name))}
    told |= {name: list(value) if isinstance(value, tuple) else value for name, value in flags.items()}
    if not told and arguments.mapping is None:
        if arguments.name is not None:
            raise UsageError("--name is for a log, whose columns --obs and --actions or --mapping tell")
        return None
    mapping = mapping_of(told, "the log's columns" if arguments.mapping is None else str(arguments.mapping))
    if (arguments.env is None) == (arguments.name is None):
        raise UsageError("tell the log's environment, --env ID, or a name where there is none, --name my_robot")
    if arguments.env is not None and (mapping.observation_space or mapping.action_space):
        raise UsageError(f"{arguments.mapping}: {arguments.env} has spaces; leave out those of the mapping")
    if arguments.name is not None:
        check_log_name(arguments.name)
    if arguments.name is not None and arguments.to != "rlgen":
        raise UsageError(f"--to {arguments.to} needs an environment; leave out --name, tell --env")
    return mapping
