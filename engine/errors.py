"""What can go wrong by a user's hand, one class for each place a caller would look.

Every message says what, which value, the rule and the way out, in one or two sentences; data errors begin with file and
line. The command line prints the sentence alone and exits with 2: such an error never shows a traceback.
"""


class AlttrainError(Exception):
    """Something the user can mend; its text is the whole message."""


class ConfigError(AlttrainError):
    """A setting is out of range, or two settings contradict each other."""


class DataError(AlttrainError):
    """A row, or a file of rows, breaks a rule of the data format."""


class ModelError(AlttrainError):
    """A model folder or tokenizer is incomplete, or does not fit its config."""


class CheckpointError(AlttrainError):
    """A run folder or checkpoint cannot be used by this run."""


class DivergenceError(AlttrainError):
    """Loss or gradient norm stopped being a number."""
