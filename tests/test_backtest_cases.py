"""Texts that records kept, read as the gateway had read them; and the encoder's work on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backtest_kit import record
from policies_fakes import policy, rule, user

from classifiers.encoder import Encoded, Encoder
from classifiers.types import Text
from proxy.backtests.cases import of_record
from proxy.backtests.memory import Remembering
from proxy.backtests.sample import _parsed
from proxy.config import RecordConfig
from proxy.endpoints import ENDPOINTS
from proxy.ledger import ContentPolicy

TINY = Path(__file__).parent / "fixtures" / "tiny-encoder"
POLICY = policy(rule("r", "{spam: spam}", "{block: No.}"))


def kept(body: dict[str, Any], path: str = "/v1/chat/completions", mode: Any = "full") -> Any:
    """The case of a request whose texts were kept, and the texts as the gateway read them."""
    endpoint = ENDPOINTS[path]
    texts = endpoint.texts(body)
    content = list(ContentPolicy(RecordConfig(content=mode)).of(texts))
    one = record([POLICY], [(user(), {})], content=content, endpoint=endpoint.name)
    return of_record(one, altered=mode != "full"), texts


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "hello"}],
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}],
        [
            {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
            {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}]},
        ],
        [{"role": "user", "content": '{"a": "what is written in JSON"}'}],
    ],
)  # fmt: skip
def test_a_chat_is_read_as_it_was(messages: list[Any]) -> None:
    """With the texts that are derived of others."""
    case, texts = kept({"model": "default", "messages": messages})
    assert list(case.request) == texts
    assert not case.altered


def test_other_apis_keep_their_turns() -> None:
    body = {
        "model": "default",
        "input": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ],
    }
    case, _ = kept(body, "/v1/responses")
    said = [(text.content, text.role, text.last_turn) for text in case.request]
    assert said == [("a", "user", False), ("b", "assistant", False), ("c", "user", True)]


@pytest.mark.parametrize("mode", ["none", "hash"])
def test_hashes_are_no_texts(mode: str) -> None:
    case, _ = kept({"model": "default", "messages": [{"role": "user", "content": "a"}]}, mode=mode)
    assert case.request is None


def test_texts_that_were_cut_are_not_judged() -> None:
    case, _ = kept({"model": "default", "messages": [{"role": "user", "content": "a" * 50_000}]})
    assert case.request is None


def test_a_quote_is_short_and_on_one_line() -> None:
    case, _ = kept({"model": "default", "messages": [{"role": "user", "content": "so\n it " * 99}]})
    assert case.quote is not None
    assert len(case.quote) == 160
    assert case.quote.startswith("so it so it")


class Counted(Encoder):
    """Counts the texts that it reads."""

    read = 0

    def encode(self, texts: Any, token_weight: Any = None) -> Encoded:
        self.read += len(texts)
        return super().encode(texts, token_weight)


def test_no_text_is_encoded_twice(tmp_path: Path) -> None:
    encoder = Counted(TINY)
    texts = ["One sentence. And another one, a bit longer.", "hello", ""]
    plain = Encoder(TINY).encode(texts)
    for _ in range(2):
        found = Remembering(encoder, tmp_path).encode(texts)
        assert found.windows == plain.windows
        assert np.allclose(found.features, plain.features, atol=1e-3)
    assert encoder.read == len(texts)
    weight = np.ones((encoder.features, 2), dtype=np.float32)
    tokens = Remembering(encoder, tmp_path).encode(texts, weight).tokens
    assert tokens[0] is not None


def test_a_sample_holds_no_texts() -> None:
    content = [{"address": ["messages", 0, "content"], "role": "user", "text": "hello"}]
    one = {**record([POLICY], [(Text("hello"), {})], content=content), "time": 1.0}
    ((_, case),) = _parsed([one]).values()
    assert case.request is None
