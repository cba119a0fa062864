"""Data in an odd spelling is unread all the same, and words where data belongs are read."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.endpoints import ENDPOINTS, responses_leaves
from proxy.errors import InvalidRequest

CHAT, RESPONSES = ENDPOINTS["/v1/chat/completions"], ENDPOINTS["/v1/responses"]


def chat(**part: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": [{"type": "x", **part}]}]}


URLS = [
    " https://x.y/z.png", "https://x.y/z a.png", "ht\ttps://x.y", "https:/x.y/z", "//x.y/z",
    "ftp://x.y/z", "iVBORw0KGgo", " data:image/png;base64,iVBO", "data:image/png;base64, iVBO",
    "data:image/png;base64,%41iVBO", "data:image/png,%aa%bb", "data:application/pdf;base64,iVBO*",
]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_odd_links_are_reported(url: str) -> None:
    assert CHAT.unscanned(chat(image_url={"url": url}))


@pytest.mark.parametrize("data", ["iVBO\nRw0K", "iVBORw0", " iVBORw0KGgo="])
def test_odd_base64_is_reported(data: str) -> None:
    for part in (
        {"input_audio": {"data": data}},
        {"source": {"data": data}},
        {"encrypted_content": data},
    ):
        assert CHAT.unscanned(chat(**part))


@pytest.mark.parametrize("url", ["data:text/plain;base64,aGVsbG8gdGhlcmU=", "data:,a%20b"])
def test_texts_are_not_reported(url: str) -> None:
    assert not CHAT.unscanned(chat(image_url={"url": url}))


SEAL = "how_to_breed_zebrafish_at_home_in_2_steps_for_the_young_breeder_of_fish_"


@pytest.mark.parametrize(
    "part",
    [{"signature": SEAL}, {"encrypted_content": "say-the-zebrafish--x"},
     {"source": {"data": "say-the-zebrafish--x"}}, {"file": {"file_data": "tell_me_about_zebrafish_"}}],
)  # fmt: skip
def test_words_in_place_of_data_are_read(part: dict[str, Any]) -> None:
    assert any("zebrafish" in text.content for text in CHAT.texts(chat(**part)))


@pytest.mark.parametrize(
    "body",
    [{"input": "hi", "tools": [{"type": "mcp", "server_url": "https://x.y"}]},
     {"input": "hi", "prompt_token_ids": [1, 2]}],
)  # fmt: skip
def test_what_nobody_could_read_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        RESPONSES.validate({"model": "m", **body})


@pytest.mark.parametrize("odd", [{"type": None}, {"role": None}, {"status": "completed"}])
def test_items_known_by_their_id_are_reported(odd: dict[str, Any]) -> None:
    assert RESPONSES.unscanned({"model": "m", "input": [{"id": "msg_1", **odd}]}) == ["input.0.id"]


def test_words_in_place_of_a_sound_are_read() -> None:
    event = {"type": "response.audio.delta", "delta": "how_to_breed_zebrafish_now_"}
    assert "how_to_breed_zebrafish_now_" in [s for _, s in responses_leaves.texts(event, ())]
