"""The errors that a user can mend; commands print them in one line."""


class UsageError(ValueError):
    """An argument can't be used: the message says which, and what would be right."""


class DemonstrationError(ValueError):
    """A dataset can't be used: the message names the file, the episode and the field."""


class CheckpointError(ValueError):
    """A checkpoint can't be used: the message names the file and what is wrong with it."""
