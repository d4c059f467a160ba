"""What command lines share: flags, step counts, run folders, one-line failures with an exit code."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import json
import os
import shlex
import shutil
import sys
import textwrap
import types
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_type_hints

import tyro

from rlgen.errors import CheckpointError, DemonstrationError, UsageError
from rlgen.files import keep_writing, printable
from rlgen.ranges import Count, NotNegative, Seed, Threads, check_ranges
from rlgen.settings import ADDED, SettingsFile, from_json, read_settings


def default(text: str) -> Any:
    """Metadata of a flag whose default is None: what --help says of it."""
    return tyro.conf.arg(help_behavior_hint=f"(default: {text})")


PRESET = default("the preset's")
TRAJECTORIES = default("4 of a dataset that rlgen recorded, all of one that was converted")


def _json_object(words: list[str]) -> dict[str, Any]:
    try:
        value = json.loads(words[0])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f'must be a JSON object such as \'{{"xml_file": "./ant.xml"}}\'; got {words[0]}')
    return value


JsonObject = Annotated[
    dict[str, Any] | None,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=_json_object,
        is_instance=lambda value: value is None or isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    ),
]
"""Type of a flag whose value is a JSON object, or None."""


def _steps(words: list[str]) -> int:
    try:
        return step_count(words[0])
    except UsageError as error:
        raise ValueError(str(error)) from None


Steps = Annotated[
    int | None,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="STEPS",
        instance_from_str=_steps,
        is_instance=lambda value: value is None or isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""Type of a flag whose value is a number of steps such as 500k, or None."""

SettingsFlag = Annotated[
    Path | SettingsFile | None,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="FILE",
        instance_from_str=lambda words: Path(words[0]),
        is_instance=lambda value: value is None or isinstance(value, Path | SettingsFile),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""Type of a flag that names a file of settings; `call` reads it, so that the run stores its content."""


@dataclass(frozen=True)
class RunOptions:
    """How a run is done, whatever learns in it."""

    seed: Seed = 0
    """Seed of environments, networks and actions, and of the draw from a dataset."""
    device: str = "auto"
    """Device of the networks: `cpu`, `cuda`, or `auto` (CUDA where there is one). With --backend mujoco actions
    are computed on the CPU."""
    threads: Annotated[Threads | None, default("measured at the start")] = None
    """Number of CPU threads for MuJoCo and torch."""
    env_kwargs: Annotated[JsonObject, default("none")] = None
    """Constructor arguments of the environment as a JSON object, such as '{"xml_file": "./ant.xml"}'."""
    eval_episodes: Count = 50
    """Number of episodes in the final evaluation, of the deterministic and of the stochastic policy each."""
    eval_every: Annotated[Steps, default("never")] = None
    """Also evaluate the deterministic policy in 10 episodes after each so many steps, such as 100k, to evaluations.csv,
    and keep the agent of that time in a folder steps/<steps>. The last policy is the result all the same."""
    run_dir: Annotated[Path | None, default("a new one in runs/")] = None
    """Folder of the run."""
    checkpoint_seconds: NotNegative = 60.0
    """Seconds between checkpoints. A run that is killed loses what came after its last one."""
    track: bool = False
    """Also log to Weights & Biases (pip install 'rlgen[track]'); with WANDB_MODE=offline, to the run's folder only."""
    resume: Annotated[Path | None, default("none")] = None
    """Continue the run in this folder from its last checkpoint, with the arguments that it was started with. With a
    larger number of steps in total it goes on beyond its end, step sizes beginning anew."""
    go_on_to: tyro.conf.Suppress[Count | None] = None
    """The steps in total of a resumed run, if that isn't what it was started with."""

    def folder(self, env_id: str, name: str) -> Path:
        """`resume`, `run_dir`, or `runs/<environment>__<name>__<seed>__<date and time>`."""
        now = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        new = Path("runs") / f"{env_id.replace('/', '_')}__{name}__{self.seed}__{now}"
        return self.resume or self.run_dir or new


@dataclass(frozen=True)
class CommandOptions(RunOptions):
    """Options of every training command."""

    of_steps: ClassVar[str] = "total_timesteps"
    """The flag that tells the steps in total."""

    seeds: Annotated[str | None, tyro.conf.arg(metavar="SEEDS"), default("none")] = None
    """Train once for each of several seeds, such as 0:5 (0 to 4) or 0,3,7, then print a table. Each run is a process
    with one thread, or --threads, and as many run at a time as there are processors. Their folders are in --run-dir.
    The same command continues seeds that were stopped."""
    settings: Annotated[SettingsFlag, default("none")] = None
    """TOML file of settings by environment id. Its values replace the preset's, and a flag replaces the file's."""

    def settings_file(self, env_id: str) -> SettingsFile:
        """The file of --settings, an empty one without; what it says of the environment is printed."""
        file = read_settings(self.settings) if isinstance(self.settings, Path) else self.settings or SettingsFile()
        if self.settings is not None:
            print(printable(file.describe(env_id)), flush=True)
        return file

    def of_agent(self, env_id: str) -> dict[str, Any]:
        """The keyword arguments that every agent takes; what the settings file says of the environment is printed."""
        return {
            "settings": self.settings_file(env_id),
            "seed": self.seed,
            "device": self.device,
            "n_threads": self.threads,
            "env_kwargs": self.env_kwargs,
        }


@dataclass(frozen=True)
class RunArguments(CommandOptions):
    """Options of the commands that learn from a reward."""

    vectorization: Literal["sync", "async"] = "sync"
    """How environments of other packages are stepped: `sync` in this process, `async` each in a process of its own."""
    backend: Literal["mujoco", "warp"] = field(default="mujoco", metadata=ADDED)
    """What steps MuJoCo tasks in training: MuJoCo on the CPU, or MuJoCo Warp on the device, with thousands of
    environments at once (--n-envs)."""
    backend_kwargs: Annotated[JsonObject, default("none")] = field(default=None, metadata=ADDED)
    """Arguments of MuJoCo Warp as a JSON object, which are "nconmax" and "njmax", room for contacts and constraints of
    an environment, and "deterministic"."""
    n_envs: Annotated[int | None, PRESET] = None
    """Number of environments."""
    n_steps: Annotated[int | None, PRESET] = None
    """Steps per environment in each iteration."""
    total_timesteps: Annotated[str | None, tyro.conf.arg(metavar="STEPS"), PRESET] = None
    """Environment steps in total, such as 3000000, 3e6 or 3M."""
    gamma: Annotated[float | None, PRESET] = None
    """Discount factor. Its horizon of 1 / (1 - gamma) steps should reach as far as the reward."""
    gae_lambda: Annotated[float | None, PRESET] = None
    """Lambda of generalised advantage estimation."""
    learning_rate: Annotated[float | None, PRESET] = None
    """Initial learning rate of Adam: of the critic with TRPO, of policy and critic with the others."""
    target_kl: Annotated[float | None, PRESET] = None
    """KL divergence of an update in nats: the trust region of TRPO; with PPO, where an update stops early."""
    batch_size: Annotated[int | None, PRESET] = None
    """Minibatch size: of the critic with TRPO, of policy and critic with the others."""
    net_arch: Annotated[tuple[int, ...] | None, PRESET] = None
    """Sizes of the hidden layers of the policy, and of the critic, such as 64 64."""
    log_std_init: Annotated[float | None, PRESET] = None
    """Initial log standard deviation of a Gaussian policy, in units of the action space."""
    horizon: Annotated[int | None, PRESET] = None
    """Imagined steps of SVG before the critic's value."""
    updates_per_step: Annotated[float | None, PRESET] = None
    """Updates of SVG or SAC for each environment step."""
    learning_starts: Annotated[int | None, PRESET] = None
    """Environment steps with random actions before SVG or SAC learn."""
    init: Annotated[Path | None, default("a fresh policy")] = None
    """Start from the policy in this folder, of a run (such as one of `rlgen bc`) or of a dataset's expert."""
    critic_warmup: Annotated[Count | None, default("5 with --init")] = None
    """Number of iterations, with --init, in which the critic and the reward model learn and the policy stays as it is,
    so that a good start isn't unlearned."""

    def of_agent(self, env_id: str) -> dict[str, Any]:
        """The keyword arguments of an agent that learns from a reward."""
        values = {name: getattr(self, name) for name in (*LEARNER_FLAGS, "init", "critic_warmup")}
        if self.total_timesteps is not None:
            values["total_timesteps"] = step_count(self.total_timesteps)
        return (
            super().of_agent(env_id)
            | {name: getattr(self, name) for name in ("vectorization", "backend", "backend_kwargs")}
            | told(values)
        )


LEARNER_FLAGS = (
    "n_envs",
    "n_steps",
    "gamma",
    "gae_lambda",
    "learning_rate",
    "target_kl",
    "batch_size",
    "net_arch",
    "log_std_init",
    "horizon",
    "updates_per_step",
    "learning_starts",
)

# As a field of a script's own arguments: `run: RunFlags = RunArguments()` adds --seed, --device and so on.
RunFlags = Annotated[RunArguments, tyro.conf.OmitArgPrefixes]


def call(module: types.ModuleType, args: Sequence[str] | None = None) -> int:
    """Do a command: its `main`, with its `Arguments` from the command line; with --resume those of the run.

    Errors that a user can mend are told in one line on stderr. An error of somebody's task keeps its traceback.

    Args:
        module: one of `rlgen.commands`.
        args: what follows `rlgen <command>`; None for a script's own.

    Returns:
        The exit code: 0 done, 2 usage, 3 data, 4 files, 5 numbers, 130 Ctrl-C, 129 to 143 a signal in training.
    """
    keep_writing()
    # One line, as errors have, without the code that warned.
    warnings.formatwarning = lambda message, *_, **__: f"warning: {printable(str(message))}\n"
    command = module.__name__.rpartition(".")[2]
    program = None if args is None else f"rlgen {command}"
    explain(module.Arguments)
    arguments: Any = tyro.cli(module.Arguments, prog=program, description=_described(module), args=args)
    # Before torch loads its OpenMP: threads that spin longer cost a busy machine most of its speed.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

    import gymnasium as gym

    try:
        if getattr(getattr(arguments, "run", None), "seeds", None) is not None:
            return _once_a_seed(command, sys.argv[1:] if args is None else args, arguments.run)
        if getattr(getattr(arguments, "run", None), "resume", None) is not None:
            arguments = _arguments_of_run(command, arguments)
        elif (path := getattr(getattr(arguments, "run", None), "settings", None)) is not None:
            # Stored with the run, so that --resume asks for no file.
            arguments = replace(arguments, run=replace(arguments.run, settings=read_settings(path)))
        check_ranges(arguments, lambda field: "--" + field.replace("_", "-"))
        return module.main(arguments) or 0
    except (OSError, FloatingPointError, UsageError, DemonstrationError, CheckpointError, gym.error.Error) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        kinds = {DemonstrationError: 3, OSError: 4, CheckpointError: 4, FloatingPointError: 5}
        return next((code for kind, code in kinds.items() if isinstance(error, kind)), 2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except SystemExit as error:  # of a task or a module of its own: whatever it says, the command isn't done
        raise RuntimeError(f"code that the command runs called sys.exit({error.code!r})") from error


def _described(module: types.ModuleType) -> str:
    """Its docstring, a sentence and examples, as wide as the terminal; tyro joins lines that aren't indented."""
    what, _, examples = (module.__doc__ or "").partition("\n\n")
    wrap = functools.partial(textwrap.fill, width=shutil.get_terminal_size().columns, break_on_hyphens=False)
    lines = [wrap(f"  {line}", subsequent_indent="      ") for line in examples.strip().splitlines()]
    return "\n".join([wrap(" ".join(what.split()), subsequent_indent=" "), "", *lines])


def explain(arguments: Any) -> None:
    """Have --help show each field's docstring as one paragraph; tyro would keep the breaks of its lines.

    Args:
        arguments: a dataclass, or a union of some; those in its fields too.
    """
    for kind in get_args(arguments) or (arguments,):
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            continue
        docs = {name: doc for base in reversed(kind.__mro__[:-1]) for name, doc in _docstrings(base).items()}
        for flag in fields(kind):
            if flag.name in docs:
                # Where tyro looks first.
                flag.metadata = types.MappingProxyType({**flag.metadata, "help": docs[flag.name]})
        for hint in get_type_hints(kind).values():
            explain(hint)


def _docstrings(kind: type) -> dict[str, str]:
    """The strings below a class's fields, each as one paragraph."""
    try:
        source = inspect.getsource(kind)
    except OSError:  # installed without sources
        return {}
    body = ast.parse(textwrap.dedent(source)).body[0].body  # type: ignore[attr-defined]
    return {
        field.target.id: " ".join(str(text.value.value).split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def _once_a_seed(command: str, words: Sequence[str], run: CommandOptions) -> int:
    from rlgen.seeds import read_seeds, run_seeds

    assert run.seeds is not None
    if command == "expert":
        raise UsageError("--seeds trains several agents; rlgen expert records one")
    if run.resume is not None:
        raise UsageError("--seeds goes on by itself; leave out --resume")
    check_ranges(run, lambda field: "--" + field.replace("_", "-"))
    left: list[str] = []
    rest = iter(words)
    for word in rest:
        name, given, _ = word.replace("_", "-").partition("=")
        if name in ("--seeds", "--seed", "--run-dir", "--threads"):
            if not given:
                next(rest, None)
        else:
            left.append(word)
    now = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    base = run.run_dir or Path("runs") / f"{command}__seeds__{now}"
    settings = read_settings(run.settings).text if isinstance(run.settings, Path) else ""
    return run_seeds(command, left, read_seeds(run.seeds), base, run.threads, settings)


def command_of_run(folder: Path) -> tuple[str, dict[str, Any]]:
    """The name of the command that started a run, and the JSON object of its arguments; errors as for `read_config`."""
    from rlgen.run_log import read_config

    config = read_config(folder)
    if "agent" in config and config.get("arguments") is None:
        raise CheckpointError(f"{folder}: a run from Python; rlgen.load(folder).learn() goes on with it")
    try:
        # `rlgen gail ...` or `python scripts/gail.py ...`
        return Path(shlex.split(config["command"])[1]).stem, dict(config["arguments"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}: holds no run ({type(error).__name__}: {error})") from None


# What reaches beyond a run's folder: a file alone decides neither where to write nor what to import.
OUTWARD = ("env", "output", "overwrite")


def _arguments_of_run(command: str, given: Any) -> Any:
    folder: Path = given.run.resume
    started, stored = command_of_run(folder)
    if started != command:
        raise UsageError(f"{folder} is a run of {started}; resume it with that")
    before, default = from_json(type(given), stored, f"{folder}/config.json: field arguments"), type(given)()
    if isinstance(before.run.settings, Path):  # a file must not name another to read
        raise CheckpointError(f"{folder}/config.json: field arguments.run.settings: must hold path and text")
    again = {name: getattr(given, name) for name in OUTWARD if hasattr(given, name)}
    steps: str | int | None = getattr(given.run, given.run.of_steps)
    anew = {"resume": folder, "track": given.run.track}
    expected = replace(default, run=type(given.run)(**anew, **{given.run.of_steps: steps}), **again)
    pairs = ((given, expected), (given.run, expected.run))
    more = [f.name for x, y in pairs for f in fields(x) if f.name != "run" and getattr(x, f.name) != getattr(y, f.name)]
    if more:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in more)
        raise UsageError(f"--resume continues with the run's own arguments; leave out {flags}")
    for name, value in again.items():
        wanted = getattr(before, name)
        if value == wanted or (name == "env" and value == default.env and ":" not in str(wanted)):
            continue
        if value != getattr(default, name):
            if name == "env":
                raise UsageError(f"--env {value}: the run has {wanted}")
            continue  # where its dataset goes, and what that replaces, may be told anew
        what = "module that a file names is imported" if name == "env" else "dataset that a file names is written"
        raise UsageError(f"add --{name}{'' if wanted is True else f' {wanted}'}: a {what} only when told again")
    if before.run.track and not given.run.track:
        warnings.warn("the run was tracked; add --track to go on with that", stacklevel=1)
    total = step_count(steps) if isinstance(steps, str) else steps
    again.pop("env", None)
    return replace(before, run=replace(before.run, **anew, go_on_to=total), **again)


def told(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that aren't None, which is a flag's default."""
    return {name: value for name, value in values.items() if value is not None}


def step_count(text: str) -> int:
    """Read 3000000, 3e6, 3M or 500k; a UsageError where it is no positive whole number."""
    factor = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower(), 1)
    try:
        steps = float(text[:-1] if factor > 1 else text) * factor
    except ValueError:
        steps = -1
    if not (1 <= steps < 1e15 and steps == int(steps)):
        raise UsageError(f"--total-timesteps must be a positive whole number such as 3000000, 3e6 or 3M; got {text!r}")
    return int(steps)


def environment_id(text: str) -> str:
    """The id in `Id` or `module:Id`, gymnasium's notation for a module that registers it, which is imported.

    The current folder is looked in too, last. Only for what a person types: an id that stands in a file is never
    imported (`rlgen.make_vec` refuses it).

    Raises:
        UsageError: there is no such module, or no such environment.
    """
    module, _, env_id = text.rpartition(":")
    if module:
        if (here := os.getcwd()) not in sys.path:
            sys.path.append(here)
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:  # whatever a person's module raises
            raise UsageError(f"--env {text}: cannot import {module}: {type(error).__name__}: {error}") from None
    check_registered(env_id)
    return env_id


def check_registered(env_id: str) -> None:
    """Refuse an id that nothing has registered; nothing is imported for it.

    Raises:
        UsageError: with near matches, and how one's own is told.
    """
    import gymnasium as gym

    import rlgen.envs  # noqa: F401, registers the exploration tasks

    try:
        gym.spec(env_id)
    except gym.error.Error as error:
        own = f"One of your own: --env MODULE:{env_id}, after the module that registers it."
        raise UsageError(f"--env {env_id}: {str(error).rstrip('.')}. {own}") from None
