"""Exit codes of `letheon-agent`, and what an administrator does next after each kind of error.

The codes are those of `letheon` (letheon.cli.exits), so that scripts need one table.
"""

from __future__ import annotations

from letheon import errors
from letheon.cli.exits import ExitCode, exit_code

__all__ = ["ExitCode", "advice", "epilog", "exit_code"]

MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done; the daemon was told to stop",
    ExitCode.DOES_NOT_HOLD: "doctor: at least one check failed; privacy: the budget is spent; "
    "a stored file is damaged",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.NOT_FOUND: "the coordinator does not know what was asked for",
    ExitCode.REFUSED: "refused: by the coordinator, or to overwrite what is there",
    ExitCode.UNREACHABLE: "the coordinator does not answer, or the disk does not",
    ExitCode.BUG: "a fault in Letheon itself",
    ExitCode.CONFIGURATION: "configuration, data or installation must be changed first",
}

_ADVICE: tuple[tuple[type[errors.LetheonError], str], ...] = (
    (
        errors.CoordinatorUnreachable,
        "`letheon-agent doctor --config FILE` says what is in the way.",
    ),
    (errors.StorageUnavailable, "Make room on the disk of state_dir, then run it again."),
    (errors.SiteFenced, "The site was erased; enrol under a new name if it is to take part again."),
    (errors.WrongPlan, "Install the version of Letheon and of the model that the federation uses."),
    (errors.UnknownPlugin, "Install the package that provides it, or choose one of those named."),
    (errors.BadData, "`letheon-agent doctor --config FILE` loads the data alone and says more."),
    (
        errors.MalformedName,
        "A site is lower-case letters, digits and dashes, such as north-clinic.",
    ),
    (errors.BadConfig, "`letheon-agent check-config --config FILE` lists everything at once."),
    (errors.AlreadyExists, "Give --force to overwrite it, or another --config."),
    (errors.BadInput, "`letheon-agent COMMAND --help` says what is expected."),
    (errors.NotAuthenticated, "Ask the coordinator's operator for a certificate of this site."),
    (errors.NotPermitted, "Ask the coordinator's operator."),
    (errors.Corrupt, "Change nothing, keep the files, and restore state_dir from its backup."),
    (errors.Busy, "Try again in a moment."),
    (errors.Unavailable, "Try again in a moment."),
    (errors.InternalFault, "Report it, with the lines of the log around it."),
)


def advice(error: errors.LetheonError) -> str:
    """One sentence: what to do next. Empty if there is nothing useful to say."""
    return next((text for kind, text in _ADVICE if isinstance(error, kind)), "")


def epilog() -> str:
    """The table of exit codes, as `letheon-agent --help` prints it."""
    lines = "\n\n".join(f"{code.value:>2}  {meaning}" for code, meaning in MEANINGS.items())
    return f"Exit codes:\n\n{lines}"
