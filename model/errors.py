"""The one exception for input that a person can mend."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line that names the file (or argument), the key, the value and what is
    allowed. Command-line programs print it and exit with status 2, without a traceback.
    """
