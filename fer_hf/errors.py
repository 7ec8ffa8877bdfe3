"""The two kinds of failure a user sees: theirs to fix (exit code 2) and everything else (exit code 1)."""


class FerError(Exception):
    """Something went wrong that is not the user's fault; the message says what to do next. Exit code 1."""

    exit_code = 1


class UserError(FerError, ValueError):
    """The input has to change: the message quotes the bad value and says what is allowed. Exit code 2."""

    exit_code = 2


class TerminatedError(FerError):
    """Training was asked to end (SIGTERM) and has saved a checkpoint first. Exit code 128 + 15, as the shell has it."""

    exit_code = 143
