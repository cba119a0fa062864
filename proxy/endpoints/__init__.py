"""The APIs that are guarded. Adding one is one file and one line in the table."""

from __future__ import annotations

from proxy.endpoints.base import Endpoint
from proxy.endpoints.chat import Chat
from proxy.endpoints.completions import Completions
from proxy.endpoints.embeddings import Embeddings
from proxy.endpoints.messages import Messages
from proxy.endpoints.responses import Responses

ENDPOINTS: dict[str, Endpoint] = {
    endpoint.path: endpoint
    for endpoint in (
        Chat(),
        Completions(),
        Embeddings(),
        Responses(),
        Messages(),
    )
}
"""Path -> endpoint. Paths under ``/v1`` that are in no table get 404, never an unguarded forward."""
