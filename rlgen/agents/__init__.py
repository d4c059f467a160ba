"""What learns, as one object: constructed, trained, evaluated, saved and loaded. The commands are written with it."""

from rlgen.agents.agent import Agent
from rlgen.agents.gail import GAIL
from rlgen.agents.learners import PPO, TRPO
from rlgen.agents.saved import load
from rlgen.agents.vime import VIME

__all__ = ["GAIL", "PPO", "TRPO", "VIME", "Agent", "load"]
