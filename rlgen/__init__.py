"""Imitation and exploration on fast, exact, vectorised MuJoCo with TRPO and PPO."""
