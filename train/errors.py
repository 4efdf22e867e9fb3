"""The one error a user's input can cause."""


class InputError(Exception):
    """A file or an option that the user gave cannot be used.

    The message is one line that names the file (and its line) or the option, says what is wrong
    and, where that is known, what would help. The commands print it and exit with status 2.
    """
