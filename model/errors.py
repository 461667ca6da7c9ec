"""The one exception for input that a person can mend."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line that names the file (or argument), the key, the value and what is
    allowed. Command-line programs print it and exit with status 2, without a traceback.
    """

    def __init__(self, message: str) -> None:
        # Names from files may hold line ends or control characters, which no terminal should meet.
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))
