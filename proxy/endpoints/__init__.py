"""The APIs that are guarded. Adding one is one file and one line in the table."""

from __future__ import annotations

from proxy.endpoints.base import Endpoint
from proxy.endpoints.chat import Chat

ENDPOINTS: dict[str, Endpoint] = {endpoint.path: endpoint for endpoint in (Chat(),)}
"""Path -> endpoint. Paths under ``/v1`` that are in no table get 404, never an unguarded forward."""
