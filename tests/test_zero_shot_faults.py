"""An encoder that hangs or raises: nobody else pays for it, and questions are answered again after."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from classifiers import worker as workers
from classifiers import zero_shot
from classifiers.engine import LONG
from classifiers.zero_shot import EncoderFailed, ZeroShot


class Letters:
    """An encoder that counts letters, raises on ``bad`` and hangs on ``hang`` until the gate opens."""

    name, hash = "letters", "0" * 64

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.runs: list[int] = []

    def encode(self, texts: Sequence[str]) -> Any:
        self.runs.append(len(texts))
        if any("bad" in text for text in texts):
            raise RuntimeError("a message that quotes the text")
        if any("hang" in text for text in texts):
            self.entered.set()
            assert self.gate.wait(30)
        features = np.asarray([[t.count("a"), t.count("b"), 1] for t in texts], dtype=np.float32)
        windows = [SimpleNamespace(text=i, sentence=False) for i in range(len(texts))]
        return SimpleNamespace(features=features, windows=windows)


def reader(encoder: Letters, **options: Any) -> ZeroShot:
    return ZeroShot(encoder, **options)  # type: ignore[arg-type]


async def test_a_text_that_fails_fails_alone() -> None:
    encoder = Letters()
    encodes = reader(encoder)
    good, bad, other = await asyncio.wait_for(
        asyncio.gather(
            *(encodes.vectors(texts) for texts in (["a"], ["b", "bad"], ["b"])),
            return_exceptions=True,
        ),
        20,
    )
    assert isinstance(bad, EncoderFailed)
    assert str(bad) == "RuntimeError in the encoder"
    assert isinstance(good, np.ndarray)
    assert isinstance(other, np.ndarray)
    encodes.close()


async def test_an_encoder_that_hangs_is_left_behind() -> None:
    encoder = Letters()
    encodes = reader(encoder, patience=0.5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(encodes.vectors(["hang"]), 20)
    assert encoder.entered.is_set()
    assert (await asyncio.wait_for(encodes.vectors(["a"]), 20)).shape == (1, 3)
    encoder.gate.set()
    encodes.close()


async def test_nobody_waits_behind_a_long_text() -> None:
    encoder = Letters()
    encodes = reader(encoder)
    book = asyncio.create_task(encodes.vectors(["hang " * LONG]))
    assert await asyncio.to_thread(encoder.entered.wait, 10)
    assert (await asyncio.wait_for(encodes.vectors(["a"]), 20)).shape == (1, 3)
    encoder.gate.set()
    assert (await asyncio.wait_for(book, 20)).shape == (1, 3)
    encodes.close()


def test_the_shares_of_choices_add_up_and_follow_nearness() -> None:
    text, far = np.eye(2, dtype=np.float32)
    near = [zero_shot.nearness(text, np.stack([way])) for way in (text, far)]
    assert near == [1.0, 0.0]
    found = zero_shot.shares(near)
    assert found[0] > found[1]
    assert sum(found) == pytest.approx(1)


def test_closing_waits_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "CLOSE_SECONDS", 0.05)
    encoder = Letters()
    encodes = reader(encoder)

    async def ask() -> Any:
        asked = asyncio.create_task(encodes.vectors(["hang"]))
        assert await asyncio.to_thread(encoder.entered.wait, 10)
        await asyncio.to_thread(encodes.close)
        return await asyncio.wait_for(asyncio.gather(asked, return_exceptions=True), 20)

    [told] = asyncio.run(ask())
    assert type(told).__name__ == "EngineClosed"
    encoder.gate.set()
