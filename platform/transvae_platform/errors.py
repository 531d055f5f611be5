"""The errors a user sees: one sentence that names the file, key or value and the way out, and an exit code."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend; the command line prints the message without a traceback."""

    exit_code = 1


class SpecError(UserError):
    """A study file, or an option, is wrong (nothing was started)."""

    exit_code = 2


class UnreachableError(UserError):
    """A cluster, a tracking server or a folder that the study needs cannot be reached (nothing was started)."""

    exit_code = 4


class DetachedError(UserError):
    """Ctrl-C ended only the following of a study that another process runs."""

    exit_code = 130
