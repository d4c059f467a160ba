"""Evaluate what a run learned: returns with intervals, and a video where asked for.

python scripts/evaluate.py runs/HalfCheetah-v4__gail-trpo__0__... --video
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from rlgen.command import JsonObject, check_registered, default, environment_id
from rlgen.errors import UsageError
from rlgen.files import short, write_json
from rlgen.ranges import Count, Seed, Threads

if TYPE_CHECKING:
    from rlgen.envs.make import Environment


@dataclass(frozen=True)
class Arguments:
    """Evaluate a run's policy; what it finds goes to `evaluation.json` in the run's folder."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    env: Annotated[str | None, default("the run's, if a package registers it")] = None
    """Gymnasium id as module:Id, for a run in an environment that a module of your own registers."""
    env_kwargs: Annotated[JsonObject, default("the run's")] = None
    """Arguments of the environment's constructor, as a JSON object, to evaluate under other ones."""
    episodes: Count = 50
    """Number of episodes, of the deterministic and of the stochastic policy each."""
    seed: Seed = 20_000
    """Seed of the episodes. Training and its own evaluation use others."""
    threads: Annotated[Threads | None, default("all processors")] = None
    """Number of CPU threads for MuJoCo."""
    code: Annotated[tuple[float, ...] | None, default("drawn for each episode")] = None
    """Code in all episodes, for a run with --codes: its number from 0, then continuous codes from -1 to 1 if there are
    any."""
    onnx: Annotated[Path | None, default("none")] = None
    """Write the deterministic policy to this file, which runs without rlgen (pip install 'rlgen[export]')."""
    video: bool = False
    """Film one deterministic episode, or with categorical codes and without --code one of each, side by side:
    `video.mp4` and `contact_sheet.png` in the run's folder (pip install 'rlgen[video]'). Works for our MuJoCo tasks and
    for every environment that renders `rgb_array`."""


def main(arguments: Arguments) -> None:
    """Evaluate, tell, film."""
    import numpy as np

    from rlgen.checkpoint import RUN, load_checkpoint, load_policy
    from rlgen.data.episodes import RandomActor
    from rlgen.envs.codes import Coded, Codes
    from rlgen.evaluation import evaluate, normalised_score
    from rlgen.nn.policy import Actor
    from rlgen.run_log import read_config, read_summary
    from rlgen.settings import from_json

    facts, _ = load_checkpoint(arguments.run, RUN)
    env_id, policy = facts["env_id"], load_policy(arguments.run)
    if arguments.env is not None and environment_id(arguments.env) != env_id:
        raise UsageError(f"--env {arguments.env}: {arguments.run} was trained in {env_id}")
    env_kwargs = facts.get("env_kwargs") if arguments.env_kwargs is None else arguments.env_kwargs
    config = read_config(arguments.run)
    agent = config.get("agent", {})
    if arguments.onnx is not None:
        from rlgen.export import export_onnx

        export_onnx(policy, arguments.onnx, env_id, config.get("columns"))
        print(f"{arguments.onnx}: obs [N, {len(policy.normalizer.mean)}] to action")
    if agent.get("told_by_id") is False and arguments.env is None:
        if arguments.onnx is not None:
            return
        where = f"tell it: --env MODULE:{env_id}, or rlgen.load(folder, env=...).evaluate() in Python"
        raise UsageError(f"{arguments.run}: its environment wasn't made by a registered id; {where}")
    check_registered(env_id)
    codes = from_json(Codes, agent["codes"], "agent.codes") if "codes" in agent else Codes()
    if arguments.code is not None and not codes:
        raise UsageError(f"--code {' '.join(map(short, arguments.code))}: {arguments.run} was trained without codes")
    told = None if arguments.code is None else codes.told(arguments.code)
    env: Environment = Coded(env_id, codes, told) if codes else env_id
    each_code = told is None and bool(codes.codes) and not codes.continuous_codes
    if arguments.video:
        from rlgen.video import camera, camera_of_codes, write_contact_sheet, write_mp4

        # What can't be filmed is told before the evaluation.
        film = camera_of_codes(env, env_kwargs) if each_code and isinstance(env, Coded) else camera(env, env_kwargs)
    n, seed = arguments.episodes, arguments.seed
    options: Any = {"n_threads": arguments.threads, "env_kwargs": env_kwargs}
    found = {
        "deterministic": evaluate(Actor(policy), env, n, seed, **options),
        "stochastic": evaluate(Actor(policy, np.random.default_rng(seed)), env, n, seed, False, **options),
        "random": evaluate(RandomActor(policy.action_space, seed), env_id, n, seed, **options),
    }
    for code in range(codes.codes) if each_code else ():
        found[f"code {code}"] = evaluate(Actor(policy), Coded(env_id, codes, code), n, seed, **options)
    expert = read_summary(arguments.run).get("expert_return_mean", agent.get("expert_return"))
    if expert is not None and env_kwargs != facts.get("env_kwargs"):
        expert = None
        print("no score: the expert's return is of other arguments of the environment")
    count = f"{arguments.episodes} episodes each, 95% intervals" if arguments.episodes > 1 else "1 episode each"
    steps = f"{facts['env_steps']:,} steps" if facts["env_steps"] else f"{facts['steps']:,} gradient steps"
    print(f"{env_id} after {steps}, {count}")
    report = {"env_id": env_id, "env_kwargs": env_kwargs, "seed": arguments.seed}
    report |= {name: facts[name] for name in ("env_steps", "steps")}
    for name, evaluation in found.items():
        interval = evaluation.interval()
        line = f"{name:>13}: {short(evaluation.mean)}"
        if interval is not None:
            line += f" ({short(interval[0])} to {short(interval[1])})"
        score = None if expert is None else normalised_score(evaluation.mean, found["random"].mean, expert)
        if score is not None and name != "random":
            line += f", score {score:.3f}"
        print(line)
        report[name] = {"mean": evaluation.mean, "interval": interval, "returns": evaluation.returns}
    write_json(arguments.run / "evaluation.json", report)
    if arguments.video:
        filmed = film(Actor(policy), seed)
        write_mp4(arguments.run / "video.mp4", filmed.frames, filmed.frames_per_second)
        write_contact_sheet(arguments.run / "contact_sheet.png", filmed.frames)
        print(f"{arguments.run / 'video.mp4'}: {len(filmed.frames)} frames, return {short(filmed.total_reward)}")
