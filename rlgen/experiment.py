"""One run from settings to summary: the code path that all training scripts share."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from rlgen.checkpoint import RUN, load_checkpoint, save_checkpoint
from rlgen.command import RunOptions
from rlgen.data.episodes import Predictor, RandomActor
from rlgen.envs.make import Environment
from rlgen.errors import CheckpointError, UsageError
from rlgen.evaluation import Evaluation, evaluate, normalised_score
from rlgen.files import canonical_json, printable, sha256, short, versions, write_json
from rlgen.nn.policy import Actor, Policy
from rlgen.ranges import Threads, available_processors, check, check_ranges
from rlgen.run_log import Display, RunLog, check_config, hold, read_config, row_of
from rlgen.spaces import describe_space
from rlgen.threads import choose_threads
from rlgen.train import Iteration, Loop, keep_freed_memory


@dataclass(frozen=True)
class Result:
    """What a run leaves in memory; the same is in its folder.

    Attributes:
        folder: the run's.
        training: as it was when it ended.
        summary: the content of `summary.json`.
        interrupted: the signal that ended training early, or None.
    """

    folder: Path
    training: Loop
    summary: dict[str, Any]
    interrupted: int | None

    @property
    def policy(self) -> Policy:
        """As it was when training ended."""
        return self.training.policy

    @property
    def exit_code(self) -> int:
        """Of the command: 0, or 128 and the signal."""
        return 128 + self.interrupted if self.interrupted else 0


class Signals:
    """SIGINT, SIGTERM and SIGHUP inside a block are noted, and the first is told with what follows.

    One that comes while evaluating raises KeyboardInterrupt, once; half an iteration is no state to go on from. Only
    the main thread can have handlers; Windows has no SIGHUP, and `nohup` has it ignored.
    """

    def __init__(self, follows: str) -> None:
        self.follows = follows
        self.received: list[int] = []
        self.evaluating = False

    def __enter__(self) -> Self:
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        if getattr(signal, "SIGHUP", None) in numbers and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            numbers.remove(signal.SIGHUP)
        if threading.current_thread() is not threading.main_thread():
            numbers = []
        self._before = {number: signal.signal(number, self._on_signal) for number in numbers}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def _on_signal(self, number: int, frame: object) -> None:
        self.received.append(number)
        if self.evaluating:
            self.evaluating = False
            raise KeyboardInterrupt
        if len(self.received) > 1:
            return
        with contextlib.suppress(RuntimeError):  # it came in the middle of another print
            print(f"\ninterrupted: {self.follows}", flush=True)


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU.

    Raises:
        UsageError: no such device, or CUDA is asked for and absent.
    """
    n_gpus = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda" if n_gpus else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d{1,2})?", name):
        raise UsageError(f"--device must be auto, cpu or cuda; got {name}")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= n_gpus:
        found = f"{n_gpus} CUDA devices, from cuda:0" if n_gpus else "no CUDA device; use --device cpu"
        raise UsageError(f"--device {name}: this installation of torch finds {found}")
    return device


def run(
    options: RunOptions,
    *,
    env: Environment | None,
    env_id: str,
    make_training: Callable[[], Loop],
    algorithm: str,
    reward: str | None,
    name: str,
    config: Mapping[str, Any],
    columns: Mapping[str, str],
    expert_return: float | None = None,
    facts: dict[str, Any] | None = None,
    on_iteration: Callable[[Iteration], Any] = lambda iteration: None,
    progress: bool = True,
) -> Result:
    """Train, then evaluate the last policy, in a folder that tells the whole story.

    The true return is reported and decides nothing: the last policy is the result. SIGINT, SIGTERM or SIGHUP ends
    training after the iteration in progress, with checkpoint and summary as usual; a second one leaves the evaluation
    out. Whatever else ends it stands in `summary.json` as `error`, with the `status` "failed", and is raised. The
    checkpoint is renewed every `options.checkpoint_seconds`. Evaluations on the way (`options.eval_every`) go to
    `evaluations.csv`, and the agent as it was at each to `steps/<steps>`, a folder that `rlgen.load` reads.

    Args:
        options: how it is done. A resumed run needs the arguments that it was started with; with our own environments
            and on one machine its result is the same to the last bit. It keeps torch's number of threads, on which sums
            over large batches depend in the last places.
        env: what is evaluated in, an id or what else `rlgen.make_vec` takes; None: nothing is evaluated.
        env_id: its name, or what the demonstrations were recorded in.
        make_training: the training from its first step on, in environments of its own.
        algorithm: name for the summary.
        reward: likewise; None of what learns from none.
        name: of what learns, in the name of a new folder.
        config: written to `config.json`, by name: dataclasses and JSON values.
        columns: metrics to display, with short titles.
        expert_return: the one of a normalised score; no score without.
        facts: added to the summary, as they are when training has ended; kept in checkpoints and put back from them.
        on_iteration: called after each iteration, once it is logged; training ends where it returns False.
        progress: print it.

    Raises:
        UsageError: an argument can't be used; nothing is written then.
        FileExistsError: the folder holds a run, and it isn't to be resumed.
        CheckpointError: there is none to go on from, it is of another environment, version or setting, or another
            process holds the run.
        FloatingPointError: an observation, a reward, a loss or a return isn't finite.
    """
    started = time.perf_counter()
    check_ranges(options)
    seed, threads, env_kwargs, resume = options.seed, options.threads, options.env_kwargs, options.resume is not None
    if options.eval_every is not None and env is None:
        raise UsageError("eval_every needs an environment to evaluate in")
    run_dir = options.folder(env_id, name)
    facts = {} if facts is None else facts
    held = hold(run_dir) if resume else None
    torch_threads = threads
    if threads is None and resume:
        torch_threads = read_config(run_dir).get("torch_threads")
        check("torch_threads", torch_threads, Threads)
    torch_threads = torch_threads or choose_threads()
    config = {"env_id": env_id, "env_kwargs": env_kwargs, "torch_threads": torch_threads, **config}
    checkpoint = _checkpoint_to_resume(run_dir, env_id, config) if resume else None
    keep_freed_memory()
    torch.set_num_threads(torch_threads)
    names = {"env_id": env_id, "algorithm": algorithm, "reward": reward, "seed": seed}
    try:
        training = make_training()
        if checkpoint is not None:
            _go_on(run_dir, training, checkpoint[1], facts, checkpoint[0].get("run"), options.go_on_to)
        log = RunLog(run_dir, config, held, training.done, options.track)
    except BaseException as error:
        # A refusal ends nothing, and a summary that is there tells how the run ended.
        refused = isinstance(error, UsageError | CheckpointError) or (run_dir / "summary.json").exists()
        if checkpoint is not None and not refused:
            ended = {"status": "failed", "error": _described(error), "env_steps": checkpoint[0]["env_steps"]}
            write_json(run_dir / "summary.json", names | ended)
        raise
    busy = "" if threads or resume or torch_threads >= available_processors() else " (more are no faster now)"
    on = f"networks on {training.device} with {torch_threads} thread{'s'[: torch_threads > 1]}{busy}"
    say = print if progress else _silent
    say(f"{env_id}: {training}, {on}, run folder {run_dir}", flush=True)
    if training.done:
        exact = "" if training.exact else "; these environments begin new episodes"
        say(f"goes on after {training.steps:,} steps{exact}", flush=True)

    saved = training.wall_seconds

    def save(folder: Path = run_dir) -> None:
        log.sync()
        kept = checkpoint_facts(training, env_id, config["env_kwargs"], facts, log.content)
        save_checkpoint(folder, training.state_dict(), kept)

    def returns(actor: Predictor, deterministic: bool, episodes: int = options.eval_episodes) -> Evaluation:
        assert env is not None
        return evaluate(actor, env, episodes, seed + 10_000, deterministic, threads, env_kwargs)

    def look() -> None:
        """Evaluate on the way, and keep the agent as it is."""
        with training.pause():
            found = returns(Actor(training.policy), True, EPISODES_ON_THE_WAY)
            log.evaluation(
                {
                    "steps": training.steps,
                    "return_mean": found.mean,
                    "return_std": float(np.std(found.returns)),
                    "episode_length_mean": float(np.mean(found.lengths)),
                    "episodes": len(found.returns),
                }
            )
            write_json(run_dir / "steps" / str(training.steps) / "config.json", log.content)
            save(run_dir / "steps" / str(training.steps))

    deterministic = stochastic = zero = failure = None
    signals = Signals("ends after this iteration, then evaluates; once more skips the evaluation")
    try:
        with signals:
            with log, Display(training.total, columns, progress) as display:
                if not resume or options.go_on_to is not None:
                    save()
                for iteration in training:
                    row = row_of(iteration)
                    log(row)
                    display(row)
                    goes_on = on_iteration(iteration) is not False and not signals.received
                    if options.eval_every is not None and (
                        training.steps % options.eval_every < training.steps_per_iteration
                    ):
                        look()
                    if not goes_on:
                        break
                    if training.wall_seconds > saved + options.checkpoint_seconds:
                        save()
                        saved = training.wall_seconds
                save()
            if env is not None and len(signals.received) < 2:
                signals.evaluating = True
                deterministic = returns(Actor(training.policy), True)
                stochastic = returns(Actor(training.policy, np.random.default_rng(seed)), False)
                zero = returns(RandomActor(training.policy.action_space, seed), False)
                signals.evaluating = False
    except BaseException as error:
        # KeyboardInterrupt without a signal is the task's own, and nothing but an error.
        if not (isinstance(error, KeyboardInterrupt) and signals.received):
            failure = error
    summary: dict[str, Any] = {
        **names,
        "status": "failed" if failure is not None else "interrupted" if signals.received else "done",
        "error": failure and _described(failure),
        "env_steps": training.env_steps,
        training.unit: training.steps,
        "went_on_after": training.began * training.steps_per_iteration or None,
        "wall_seconds": round(training.wall_seconds, 2),
        "steps_per_second": round(training.steps / training.wall_seconds) if training.wall_seconds else 0,
        "return_mean": deterministic and deterministic.mean,
        "return_std": deterministic and deterministic.std,
        "episodes": None if env is None else options.eval_episodes,
        "episode_length_mean": deterministic and float(np.mean(deterministic.lengths)),
        "stochastic_return_mean": stochastic and stochastic.mean,
        "stochastic_return_std": stochastic and stochastic.std,
        "random_return_mean": zero and zero.mean,
        "expert_return_mean": expert_return,
        "normalised_score": None,
        "stochastic_normalised_score": None,
        "device": str(training.device),
        "total_seconds": round(time.perf_counter() - started, 2),
        **facts,
    }
    if expert_return is not None and deterministic and stochastic and zero:
        summary["normalised_score"] = normalised_score(deterministic.mean, zero.mean, expert_return)
        summary["stochastic_normalised_score"] = normalised_score(stochastic.mean, zero.mean, expert_return)
    # What ended the run is told, not what follows from it, as on a full disk.
    with contextlib.nullcontext() if failure is None else contextlib.suppress(Exception):
        log.save_summary(summary)
    if failure is not None:
        raise failure
    if progress:
        _print_summary(summary)
        print(f"{run_dir / 'metrics.csv'}: one row per iteration; docs/metrics.md explains its columns")
    return Result(run_dir, training, summary, signals.received[0] if signals.received else None)


def _silent(*text: str, flush: bool = False) -> None:
    pass


EPISODES_ON_THE_WAY = 10
"""Episodes of each evaluation on the way."""


def checkpoint_facts(
    training: Loop,
    env_id: str,
    env_kwargs: Mapping[str, Any] | None,
    facts: Mapping[str, Any],
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """What a checkpoint tells beside the training's state; `config` is the content of `config.json`."""
    return {
        "env_id": env_id,
        "env_kwargs": env_kwargs,
        "env_steps": training.env_steps,
        "steps": training.steps,
        "run": facts,
        "config": sha256(canonical_json(config)),
        "observation_space": describe_space(training.policy.observation_space),
        "action_space": describe_space(training.policy.action_space),
    }


def _described(error: BaseException) -> str:
    return printable(f"{type(error).__name__}: {error}")


def _checkpoint_to_resume(
    run_dir: Path, env_id: str, config: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Facts and state of the checkpoint in a run's folder, if it goes on exactly with these settings and versions."""
    facts, state = load_checkpoint(run_dir, RUN)
    if facts["env_id"] != env_id:
        raise CheckpointError(f"{run_dir}: its checkpoint is of {facts['env_id']}, not {env_id}")
    recorded, here = facts["versions"], versions()
    if changed := [
        f"{name} {recorded.get(name)}, here {here[name]}" for name in here if recorded.get(name) != here[name]
    ]:
        raise CheckpointError(
            f"{run_dir}: its checkpoint was written with {'; '.join(changed)}; it would not go on exactly"
        )
    check_config(run_dir, config, facts.get("config", ""))
    return facts, state


def _go_on(
    run_dir: Path, training: Loop, state: dict[str, Any], facts: dict[str, Any], kept: Any, total: int | None
) -> None:
    """Put state and facts of a checkpoint back, if they are what these settings would have written.

    With a `total` beyond what the run was to do, so many steps in all are to be done, step sizes beginning anew.
    """
    try:
        training.load_state_dict(state)
        numbers = {name: value for name, value in kept.items() if value != facts[name]}
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{run_dir}: its checkpoint doesn't fit ({type(error).__name__}: {error})") from None
    counts = training.began, training.done, training.n_iterations
    if {type(count) for count in counts} != {int} or list(counts) != sorted(counts) or counts[0] < 0:
        raise CheckpointError(f"{run_dir}: its checkpoint has {training.done} of {training.n_iterations} iterations")
    if wrong := [name for name, value in numbers.items() if type(value) not in (int, float)]:
        raise CheckpointError(f"{run_dir}: its checkpoint: field run.{wrong[0]}: must be a number")
    facts.update(numbers)
    if total is not None:
        # As it is counted, in whole iterations.
        total = -(-total // training.steps_per_iteration) * training.steps_per_iteration
        if total < training.total or total == training.steps:
            has = f"has done {training.steps:,} of {training.total:,} steps"
            raise UsageError(f"{run_dir} {has}; to go on beyond them it must be told more in all")
        if total > training.total:
            training.extend(total - training.steps)


def _print_summary(summary: dict[str, Any]) -> None:
    """A few lines for the person at the terminal."""
    of_gradient = summary.get("gradient_steps")
    steps = f"{summary['env_steps']:,} steps" if of_gradient is None else f"{of_gradient:,} gradient steps"
    print(f"{steps} in {summary['wall_seconds']:.0f} s, {summary['steps_per_second']:,} a second")
    if summary["episodes"] is None:
        print(f"no environment {summary['env_id']} to evaluate in")
        return
    if summary["random_return_mean"] is None:
        print("interrupted before its evaluation ended")
        return
    expert, random = summary["expert_return_mean"], summary["random_return_mean"]
    found = f"return of {summary['episodes']} episode{'s'[: summary['episodes'] > 1]}: "
    for name, prefix in (("deterministic", ""), ("stochastic", "stochastic_")):
        std = summary[f"{prefix}return_std"]
        found += f"{name} {short(summary[f'{prefix}return_mean'])}{'' if std is None else f' +- {short(std)}'}, "
    print(f"{found}random {short(random)}")
    if expert is not None and expert <= random:
        print(f"no score: the expert's {short(expert)} is no better than random actions")
    if summary["normalised_score"] is not None:
        print(
            f"expert {short(expert)}: normalised score {summary['normalised_score']:.3f} "
            f"deterministic, {summary['stochastic_normalised_score']:.3f} stochastic (0 random, 1 expert)"
        )
