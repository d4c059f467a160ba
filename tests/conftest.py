"""Shared by all tests."""

import gymnasium as gym
import pytest
import torch


@pytest.fixture(autouse=True)
def _quiet_and_seeded():
    gym.logger.min_level = gym.logger.ERROR
    torch.manual_seed(0)
    torch.set_num_threads(1)
