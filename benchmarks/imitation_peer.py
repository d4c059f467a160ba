"""One timed round of HumanCompatibleAI/imitation's GAIL on HalfCheetah-v4; runs in that package's own environment.

Settings equal to our paper preset's sizes: 8 environments, 50,000 steps a round, 2x100 networks, 16 discriminator
updates of 2 x 1,024.
"""

import json
import sys
import time

import gymnasium as gym
import numpy as np
import torch
from imitation.algorithms.adversarial.gail import GAIL
from imitation.data.types import Transitions
from imitation.rewards.reward_nets import BasicRewardNet
from imitation.util.networks import RunningNorm
from sb3_contrib import TRPO
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

N_ENVS, PER_ROUND = 8, 50_000
torch.manual_seed(0)
envs = make_vec_env("HalfCheetah-v4", N_ENVS, seed=0)
settings = {"n_steps": PER_ROUND // N_ENVS, "policy_kwargs": {"net_arch": [100, 100]}, "device": "cpu"}
learner = {"trpo": TRPO, "ppo": PPO}[sys.argv[1]]("MlpPolicy", envs, **settings)

# What the pairs are doesn't change the time that they take.
rng = np.random.default_rng(0)
single = gym.make("HalfCheetah-v4")
obs = rng.normal(size=(2048, *single.observation_space.shape)).astype(np.float32)
acts = rng.uniform(-1, 1, (2048, *single.action_space.shape)).astype(np.float32)
expert = Transitions(obs, acts, np.array([{}] * 2048), obs, np.zeros(2048, bool))
reward = BasicRewardNet(
    envs.observation_space, envs.action_space, normalize_input_layer=RunningNorm, hid_sizes=(100, 100)
)
trainer = GAIL(
    demonstrations=expert,
    demo_batch_size=1024,
    venv=envs,
    gen_algo=learner,
    reward_net=reward,
    n_disc_updates_per_round=16,
    gen_train_timesteps=PER_ROUND,
    gen_replay_buffer_capacity=PER_ROUND,
    allow_variable_horizon=True,
)
started = time.perf_counter()
trainer.train(PER_ROUND)
print(json.dumps({"steps_per_second": PER_ROUND / (time.perf_counter() - started)}))
