"""Settings of the dashboard."""

from __future__ import annotations

from pydantic import Field

from classifiers.types import StrictModel


class DashboardConfig(StrictModel):
    """The pages below ``/dashboard``, for people with an admin key."""

    enabled: bool = True
    """Whether there are any."""
    session_hours: float = Field(default=12, gt=0, le=24 * 30)
    """How long a login lasts; the end of its key ends it at once."""
