"""HumanCompatibleAI/imitation's GAIL on given pairs, with the settings that it ships for a task; runs in its own venv.

The argument is a JSON object: env_id, seed, total_timesteps, parts, episodes, pairs (an .npz), tuned (whose settings).
"""

import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import imitation
import jsonpickle
import numpy as np
import torch
from imitation.algorithms.adversarial.gail import GAIL
from imitation.data.types import Transitions
from imitation.rewards.reward_nets import NormalizedRewardNet
from imitation.util import logger
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

N_ENVS = 8  # as that project's command has it
cell = json.loads(sys.argv[1])
seed, total = cell["seed"], cell["total_timesteps"]
with np.load(cell["pairs"]) as pairs:
    demonstrations = Transitions(infos=np.array([{}] * len(pairs["obs"])), **pairs)
file = Path(imitation.__file__).parent / f"scripts/config/tuned_hps/gail_seals_{cell['tuned']}_best_hp_eval.json"
published = json.loads(file.read_text())
settings = {part: published[part] for part in ("algorithm_kwargs", "reward", "rl", "policy")}
most = 1 << (len(demonstrations).bit_length() - 1)  # a batch can't be larger than the data
settings["algorithm_kwargs"]["demo_batch_size"] = min(settings["algorithm_kwargs"]["demo_batch_size"], most)
gail, reward, rl, policy = jsonpickle.decode(json.dumps(settings)).values()  # the file names classes

torch.set_num_threads(1)
envs, tested_in = make_vec_env(cell["env_id"], N_ENVS, seed=seed), make_vec_env(cell["env_id"], cell["episodes"])
sizes = {"n_steps": rl["batch_size"] // N_ENVS, "policy_kwargs": policy["policy_kwargs"]}
learner = rl["rl_cls"](policy["policy_cls"], envs, seed=seed, device="cpu", **sizes, **rl["rl_kwargs"])
net = reward["net_cls"](envs.observation_space, envs.action_space, **reward["net_kwargs"])
net = NormalizedRewardNet(net, reward["normalize_output_layer"])
returns: list[float] = []
tested = 0.0


def look(number: int) -> None:
    """Evaluate where a part of the run ends with this round; the time is not training's."""
    global tested
    started = time.perf_counter()
    steps = min((number + 1) * rl["batch_size"], total)  # the last round may go beyond
    while steps >= total * (len(returns) + 1) / cell["parts"]:
        tested_in.seed(seed + 30_000)
        returns.append(float(evaluate_policy(learner, tested_in, cell["episodes"], deterministic=True)[0]))
    tested += time.perf_counter() - started


with tempfile.TemporaryDirectory() as folder:
    told = {"allow_variable_horizon": True, "custom_logger": logger.configure(folder, [])}
    trainer = GAIL(demonstrations=demonstrations, venv=envs, gen_algo=learner, reward_net=net, **told, **gail)
    started = time.perf_counter()
    trainer.train(-(-total // rl["batch_size"]) * rl["batch_size"], look)  # the last round is whole
    seconds = time.perf_counter() - started - tested
packages = ("imitation", "stable-baselines3", "torch", "numpy", "gymnasium", "mujoco")
versions = " ".join(f"{package}={version(package)}" for package in packages)
result = {"wall_seconds": round(seconds, 2), "env_steps": learner.num_timesteps, "returns": returns}
print(json.dumps(result | {"settings": json.dumps(settings), "versions": versions}))
