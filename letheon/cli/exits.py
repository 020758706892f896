"""Exit codes, and what a person does next after each kind of error.

The table is printed by `letheon --help`; scripts may rely on it.
"""

from __future__ import annotations

from enum import IntEnum

from letheon import errors


class ExitCode(IntEnum):
    """What the shell sees."""

    OK = 0
    DOES_NOT_HOLD = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNREACHABLE = 5
    BUG = 70
    CONFIGURATION = 78


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.DOES_NOT_HOLD: "a promise or verification does not hold, or an erasure or unit failed",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.NOT_FOUND: "no such site, model, erasure or certificate",
    ExitCode.REFUSED: "refused by the present state of the federation",
    ExitCode.UNREACHABLE: "the coordinator does not answer",
    ExitCode.BUG: "a fault in Letheon itself",
    ExitCode.CONFIGURATION: "configuration or data cannot be used",
}

# Most specific first: the first class that fits decides.
_CODES: tuple[tuple[type[errors.LetheonError], ExitCode], ...] = (
    (errors.BadConfig, ExitCode.CONFIGURATION),
    (errors.BadData, ExitCode.CONFIGURATION),
    (errors.UnknownPlugin, ExitCode.CONFIGURATION),
    (errors.WrongPlan, ExitCode.CONFIGURATION),
    (errors.TrainingCodeFailed, ExitCode.CONFIGURATION),
    (errors.CertificateInvalid, ExitCode.DOES_NOT_HOLD),
    (errors.ProofInvalid, ExitCode.DOES_NOT_HOLD),
    (errors.BadSignature, ExitCode.DOES_NOT_HOLD),
    (errors.DigestMismatch, ExitCode.DOES_NOT_HOLD),
    (errors.ChecksumMismatch, ExitCode.DOES_NOT_HOLD),
    (errors.BadInput, ExitCode.USAGE),
    (errors.NotFound, ExitCode.NOT_FOUND),
    (errors.Corrupt, ExitCode.DOES_NOT_HOLD),
    (errors.Unavailable, ExitCode.UNREACHABLE),
    (errors.InternalFault, ExitCode.BUG),
    (errors.LetheonError, ExitCode.REFUSED),
)

_ADVICE: tuple[tuple[type[errors.LetheonError], str], ...] = (
    (
        errors.CoordinatorUnreachable,
        "Start one with `letheon up`, or name another with --coordinator HOST:PORT; one with TLS "
        "wants `letheon --identity FOLDER`.",
    ),
    (errors.RestoreIncomplete, "`letheon restore` files again what the backup has forgotten."),
    (errors.UnknownSite, "`letheon sites` lists the sites."),
    (errors.UnknownErasure, "`letheon erase list` lists the erasures."),
    (errors.UnknownModelVersion, "`letheon models list` lists the versions that can be had."),
    (errors.UnknownCertificate, "`letheon erase show ID` says where the erasure stands."),
    (errors.UnknownPlugin, "Install the package that provides it, or choose one of those named."),
    (errors.ErasureAlreadyRequested, "`letheon erase list` shows it; watch that one instead."),
    (errors.TrainingCodeFailed, "Mend the code, then `letheon rehearse` it again."),
    (errors.MethodRefused, "Choose another --method."),
    (errors.LevelRefused, "Choose another --level."),
    (errors.ErasureNotCancellable, "`letheon erase show ID` says where the erasure stands."),
    (errors.ErasureConcluded, "`letheon erase show ID` says how it ended."),
    (errors.ModelDestroyed, "It can never be rebuilt; choose a later version."),
    (errors.VersionCompacted, "Choose the oldest version named above, or a later one."),
    (errors.NoServingModel, "Wait for the erasure to be certified: `letheon erase list`."),
    (errors.ExportSuspended, "Export again once the erasure is certified: `letheon erase list`."),
    (errors.VerificationRunning, "Wait for the verification that runs, then try again."),
    (errors.RebuildRunning, "Wait for the rebuild that runs, then try again."),
    (errors.RateLimited, "Wait as long as it says, then try again."),
    (errors.NoAuthority, "docs/security/identity.md says how an authority of your own is used."),
    (errors.InvitationRefused, "`letheon site invite SITE` makes a new token."),
    (errors.NotAuthenticated, "`letheon --identity FOLDER` shows who you are."),
    (errors.NotPermitted, "docs/security/permissions.md says who may do it."),
    (errors.ErasureNotAwaiting, "`letheon erase show ID` says where the erasure stands."),
    (errors.BadConfig, "Correct the file or option named above, then run the command again."),
    (
        errors.BadData,
        "`letheon data inspect` shows what is read; commands that have --synthetic need no data.",
    ),
    (errors.MalformedName, "Write site-3 or sites/site-3, an erasure by the id it was given."),
    (errors.ProofInvalid, "Keep both files, change nothing, and ask whoever runs the coordinator."),
    (
        errors.SiteKeyChanged,
        "Put back the agent's state directory, or `letheon keys forget SITE` lets it begin anew.",
    ),
    (errors.BadInput, "`letheon COMMAND --help` says what is expected."),
    (errors.Corrupt, "Change nothing, keep the files, and call whoever runs the coordinator."),
    (errors.Busy, "Try again in a moment."),
    (errors.Unavailable, "Try again in a moment; the log of the coordinator says more."),
    (errors.InternalFault, "The log of the service has the stack under the correlation id."),
)


def exit_code(error: errors.LetheonError) -> ExitCode:
    """The code of an error, by the most specific class it belongs to."""
    return next(code for kind, code in _CODES if isinstance(error, kind))


def advice(error: errors.LetheonError) -> str:
    """One sentence: what to do next. Empty if there is nothing useful to say."""
    return next((text for kind, text in _ADVICE if isinstance(error, kind)), "")


def epilog() -> str:
    """The table of exit codes, as `letheon --help` prints it."""
    lines = "\n\n".join(f"{code.value:>2}  {meaning}" for code, meaning in MEANINGS.items())
    return f"Exit codes:\n\n{lines}"
