"""The site's own limit on what its updates may tell of a record or a patient."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class PrivacyConfig(BaseModel):
    """Differential privacy of what is trained here: docs/security/privacy.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    noise_multiplier: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    """Standard deviation of the noise of a step, in units of `clip_norm`."""
    epsilon_budget: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    """What all updates of this site together may spend; then it trains no more."""
    delta: Annotated[float, Field(gt=0.0, lt=1.0)] = 1e-5
    """With which probability epsilon may not hold; below 1 / training records."""
    clip_norm: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    """Length that the gradient of one unit is cut to, L2."""
    unit: Literal["record", "patient"] = "record"
    """What is protected: one record, or one patient with all records."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Records that take part in a step on average; without it the plan's batch size."""
