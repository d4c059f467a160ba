"""One module a command: its arguments, and `main`, which composes and calls."""
