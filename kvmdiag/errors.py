"""Errors that end a command with one line and an exit code.

    KvmdiagError
    ├── UsageError        2   the question cannot be asked as it was put
    ├── InputError        2   a file or an input cannot be read
    ├── LabError          2   a practice network cannot be built, broken or removed
    └── NotReadableError    3   too little could be read to give an answer

Each message names what failed, on what, and what to do about it.
"""


class KvmdiagError(Exception):
    """Base of all errors meant for the user's eyes; never shown with a traceback."""

    exit_code = 2


class UsageError(KvmdiagError):
    """The command line asks for something that does not exist or does not fit together."""


class InputError(KvmdiagError):
    """A snapshot file or another input is missing, damaged or of an unknown version."""


class LabError(KvmdiagError):
    """A practice network is missing, already there, or could not be changed."""


class NotReadableError(KvmdiagError):
    """The system did not let us read what the answer depends on."""

    exit_code = 3
