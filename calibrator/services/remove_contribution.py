"""The removal: epoch + 1, and the subject's contribution leaves the head."""

from __future__ import annotations

from calibrator.domain.progress import Stage
from calibrator.services.ask_before import ask_before
from calibrator.services.job import Job, Moved, Workshop


def remove_contribution(job: Job, workshop: Workshop) -> Moved:
    """Has the coordinator remove, then asks about the version from before.

    A repeat gives the recorded removal.
    """
    removal = workshop.coordinator.remove(job.ticket)
    ask_before(job, removal.version_before, workshop)
    progress = job.progress.model_copy(
        update={
            "removal": removal,
            "stage": Stage.METHOD,
            "stage_since": workshop.clock.now(),
        }
    )
    return Moved(progress)
