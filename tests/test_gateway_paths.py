"""The paths of the public APIs that are not served: what is not guarded does not exist here."""

from __future__ import annotations

import httpx
from gateway_kit import ScriptedUpstream, StartGateway

ASK = {"model": "default", "messages": [{"role": "user", "content": "hi"}]}
NOT_SERVED = """
GET /v1/files | POST /v1/files | GET /v1/files/f-1 | DELETE /v1/files/f-1 | GET /v1/files/f-1/content
POST /v1/uploads | POST /v1/uploads/u-1/parts | POST /v1/uploads/u-1/complete
POST /v1/images/generations | POST /v1/images/edits | POST /v1/images/variations
POST /v1/audio/speech | POST /v1/audio/transcriptions | POST /v1/audio/translations
POST /v1/assistants | GET /v1/assistants/a-1 | POST /v1/threads | POST /v1/threads/runs
POST /v1/threads/t-1/messages | POST /v1/threads/t-1/runs | GET /v1/threads/t-1/runs/r-1/steps
POST /v1/threads/t-1/runs/r-1/submit_tool_outputs
POST /v1/batches | GET /v1/batches | POST /v1/batches/b-1/cancel
POST /v1/fine_tuning/jobs | GET /v1/fine_tuning/jobs/j-1/events | POST /v1/fine_tuning/alpha/graders/run
POST /v1/vector_stores | POST /v1/vector_stores/v-1/search | POST /v1/vector_stores/v-1/files
POST /v1/vector_stores/v-1/file_batches
POST /v1/evals | POST /v1/evals/e-1/runs | GET /v1/evals/e-1/runs/r-1/output_items
POST /v1/containers | POST /v1/containers/c-1/files | GET /v1/containers/c-1/files/f-1/content
POST /v1/conversations | POST /v1/conversations/c-1/items | GET /v1/conversations/c-1
POST /v1/realtime/sessions | POST /v1/realtime/client_secrets | POST /v1/realtime/calls
POST /v1/realtime/transcription_sessions
POST /v1/videos | POST /v1/videos/v-1/remix | GET /v1/videos/v-1/content
POST /v1/skills | POST /v1/chatkit/sessions | POST /v1/webhooks
GET /v1/organization/usage/completions | POST /v1/organization/admin_api_keys | GET /v1/organization/costs
GET /v1/chat/completions/c-1 | DELETE /v1/chat/completions/c-1 | GET /v1/chat/completions/c-1/messages
GET /v1/responses/r-1 | DELETE /v1/responses/r-1 | POST /v1/responses/r-1/cancel
GET /v1/responses/r-1/input_items | POST /v1/responses/compact | POST /v1/responses/input_tokens
POST /v1/edits | POST /v1/answers | POST /v1/classifications | POST /v1/search
POST /v1/rerank | POST /v1/score | POST /v1/tokenize | POST /v1/messages/batches
POST /v1/complete | POST /chat/completions | POST /completions | POST /embeddings
"""


def not_served() -> list[tuple[str, str]]:
    rows = NOT_SERVED.replace("\n", "|").split("|")
    return [(method, path) for row in rows if row.strip() for method, path in [row.split()]]


def test_all_other_paths_of_the_public_apis_do_not_exist(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = shared_gateway()
    assert len(not_served()) > 60
    with httpx.Client(base_url=door.url, timeout=10) as client:
        for method, path in not_served():
            body = None if method in ("GET", "DELETE") else ASK | {"input": "x", "prompt": "x"}
            answer = client.request(method, path, json=body)
            assert answer.status_code == 404, (method, path)
            error = answer.json()["error"]  # below /v1/messages in Anthropic's shape
            assert error.get("code", error["type"]) in ("unknown_url", "not_found_error"), path
    assert upstream.seen == []


def test_a_realtime_socket_is_not_opened(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    head = {
        "connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    answer = httpx.get(f"{shared_gateway().url}/v1/realtime?model=default", headers=head)
    assert answer.status_code in (400, 403, 404)
    assert upstream.seen == []
