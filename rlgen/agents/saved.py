"""Agents out of folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gymnasium as gym

from rlgen import exploration, imitation
from rlgen.agents.agent import Agent, AnyEnvironment, Arguments, Loaded, folder_path, typed
from rlgen.agents.bc import BC
from rlgen.agents.gail import GAIL, GAILArguments
from rlgen.agents.imitator import ExpertArguments, Imitator
from rlgen.agents.learners import PPO, SAC, SVG, TRPO, LearnerArguments
from rlgen.agents.vime import VIME, VIMEArguments
from rlgen.checkpoint import RUN, load_checkpoint
from rlgen.cloning import CloningSettings
from rlgen.data.demonstrations import Demonstrations
from rlgen.errors import CheckpointError, UsageError
from rlgen.nn.weights import policy_of_weights
from rlgen.presets import LearnerSettings, Settings
from rlgen.run_log import check_unchanged, first_metrics, read_config
from rlgen.settings import from_json

AGENTS: Mapping[str, tuple[type[Agent], type[Arguments], type[Settings]]] = {
    "BC": (BC, ExpertArguments, CloningSettings),
    "GAIL": (GAIL, GAILArguments, imitation.Imitation),
    "VIME": (VIME, VIMEArguments, exploration.Exploration),
    "TRPO": (TRPO, LearnerArguments, LearnerSettings),
    "PPO": (PPO, LearnerArguments, LearnerSettings),
    "SAC": (SAC, LearnerArguments, LearnerSettings),
    "SVG": (SVG, LearnerArguments, LearnerSettings),
}


def load(
    path: str | Path,
    env: AnyEnvironment | None = None,
    *,
    expert: str | Path | Demonstrations | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> Agent:
    """The agent that `save` wrote to a folder, or that a run or a command left in its own.

    It acts at once; what training needs beside it, such as the demonstrations, is read when it learns again.

    Args:
        path: the folder.
        env: what to evaluate and to learn in (default: the id in the folder, with its arguments).
        expert: where its demonstrations are now, or they themselves (default: where they were).
        device: where it learns now (default: where it did).
        n_threads: likewise.

    Raises:
        CheckpointError: the folder holds no agent, or a damaged one.
        UsageError: nothing registers its environment; import what does, or pass `env`.
    """
    folder = folder_path("path", path)
    config = read_config(folder)
    facts, state = load_checkpoint(folder, RUN)
    check_unchanged(folder, config, facts.get("config", ""))
    where = f"{folder}/config.json: field"
    try:
        kept = dict(config["agent"])
        kind, of_arguments, of_settings = AGENTS[kept["kind"]]
        stored = dict(kept["arguments"])
        policy = policy_of_weights(facts, state["policy"])
        rows = first_metrics(folder, state["progress"]["done"])
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: holds no agent ({type(error).__name__}: {error})") from None
    stored |= {} if device is None else {"device": str(device)}
    stored |= {} if n_threads is None else {"n_threads": n_threads}
    if isinstance(expert, str | Path):
        stored["expert"] = str(expert)
    arguments = from_json(of_arguments, stored, f"{where} agent.arguments")
    settings = from_json(of_settings, config["settings"], f"{where} settings")
    agent = kind.__new__(kind)
    env_kwargs = None
    if env is None and kept.get("told_by_id") is True:
        env, env_kwargs = facts["env_id"], facts.get("env_kwargs")
    try:
        Agent.__init__(agent, env, settings, arguments, env_kwargs)
    except gym.error.Error as error:
        raise UsageError(f"{folder}: {str(error).rstrip('.')}: import what registers it, or pass env") from None
    if not isinstance(env, str):  # whose demonstrations are of the id that they were recorded in
        agent.env_id = facts["env_id"]
    agent.expert_return = typed(float | None, kept.get("expert_return"), f"{where} agent.expert_return")
    agent._loaded = Loaded(policy, state, facts, config)
    agent._rows = [*rows]
    agent._restore(facts["run"])
    if isinstance(agent, Imitator) and isinstance(expert, Demonstrations):
        agent._demonstrations = expert
    return agent
