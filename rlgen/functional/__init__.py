"""Pure tensor mathematics: no state, no configuration, no environments."""
