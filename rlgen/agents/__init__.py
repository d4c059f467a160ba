"""What learns, as one object: constructed, trained, evaluated, saved and loaded. The commands are written with it."""

from rlgen.agents.agent import Agent as Agent
from rlgen.agents.bc import BC as BC
from rlgen.agents.gail import GAIL as GAIL
from rlgen.agents.learners import PPO as PPO
from rlgen.agents.learners import SAC as SAC
from rlgen.agents.learners import SVG as SVG
from rlgen.agents.learners import TRPO as TRPO
from rlgen.agents.saved import load as load
from rlgen.agents.vime import VIME as VIME
