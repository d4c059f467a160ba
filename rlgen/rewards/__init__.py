"""Reward models, one file each: they score transitions and then learn from them."""
