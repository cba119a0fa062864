"""What tokens cost: litellm's price map, read as the JSON file it is.

Importing litellm takes seconds and some 160 MB; its file takes some 30 ms, and of it only the few
numbers per model are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

PRICE_FILE = "model_prices_and_context_window_backup.json"

CHARS_PER_TOKEN = 4.0
"""Characters of English per token: OpenAI's rule of thumb (help centre, "What are tokens and how to
count them?"). Other scripts need more tokens, so the estimate is low for them."""

COMPLETION_TOKENS = 215
"""Length of a reply that nobody wrote: the mean of the responses in LMSYS-Chat-1M (214.5 tokens,
Zheng et al. 2023, arXiv:2309.11998, table 1)."""

_TIER = re.compile(r"(input|output)_cost_per_token_above_(\d+)k_tokens")


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per token, from a prompt length on.

    Attributes:
        above: prompts of more tokens than this pay the price.
    """

    above: int
    prompt: float
    completion: float


class Prices:
    """Prices by model name.

    Args:
        table: model -> its provider and its prices, the one with the highest ``above`` first.
    """

    def __init__(self, table: Mapping[str, tuple[str, tuple[Price, ...]]]) -> None:
        self._table = dict(table)

    @classmethod
    def load(cls, path: Path | None = None) -> Prices:
        """Read the price map that is installed with litellm, or another file of its format.

        A missing or broken file gives no prices, because a gateway can do without them.
        """
        try:
            entries = orjson.loads((path or _installed()).read_bytes())
        except (OSError, orjson.JSONDecodeError):
            entries = None
        if not isinstance(entries, dict):
            return cls({})
        found = ((name, _prices(entry)) for name, entry in entries.items() if name != "sample_spec")
        return cls(
            {
                name: (str(entries[name].get("litellm_provider", "")), prices)
                for name, prices in found
                if prices
            }
        )

    def __len__(self) -> int:
        return len(self._table)

    def cost(self, price_key: str, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Dollars for a call, None where the price is not known.

        Args:
            price_key: litellm's model name, with or without its provider: ``openai/gpt-4o``.
        """
        provider, _, rest = price_key.partition("/")
        entry = self._table.get(price_key) or self._table.get(rest)
        # The same name at another provider (or on one's own machine) has another price.
        if entry is None or (price_key not in self._table and not entry[0].startswith(provider)):
            return None
        price = next((price for price in entry[1] if prompt_tokens > price.above), None)
        if price is None or completion_tokens < 0:
            return None  # no such number of tokens
        return prompt_tokens * price.prompt + completion_tokens * price.completion

    def estimate_tokens(self, text_chars: int) -> int:
        """See :func:`estimate_tokens`."""
        return estimate_tokens(text_chars)


def estimate_tokens(text_chars: int) -> int:
    """Tokens of a text of so many characters, by CHARS_PER_TOKEN, rounded up."""
    return -int(-text_chars // CHARS_PER_TOKEN)


def estimate_completion(max_tokens: int | None = None) -> int:
    """Tokens of a reply that was never written: COMPLETION_TOKENS, or the request's own limit if
    that is less."""
    return COMPLETION_TOKENS if max_tokens is None else min(COMPLETION_TOKENS, max_tokens)


def _installed() -> Path:
    spec = find_spec("litellm")  # finds the package, does not import it
    if spec is None or spec.origin is None:
        raise FileNotFoundError("litellm is not installed")
    return Path(spec.origin).parent / PRICE_FILE


def _prices(entry: Any) -> tuple[Price, ...]:
    if not isinstance(entry, dict):
        return ()
    base = _number(entry.get("input_cost_per_token")), _number(entry.get("output_cost_per_token"))
    if base[0] is None and base[1] is None:
        return ()  # priced by image, second or page: not by tokens
    prompt, completion = base[0] or 0.0, base[1] or 0.0
    prices = [Price(-1, prompt, completion)]
    for above in _tiers(entry):
        suffix = f"cost_per_token_above_{above}k_tokens"
        tier = _number(entry.get(f"input_{suffix}")), _number(entry.get(f"output_{suffix}"))
        prices.append(
            Price(
                above * 1000,
                prompt if tier[0] is None else tier[0],
                completion if tier[1] is None else tier[1],
            )
        )
    return tuple(sorted(prices, key=lambda price: -price.above))


def _tiers(entry: Iterable[str]) -> set[int]:
    return {int(match[2]) for key in entry if (match := _TIER.fullmatch(key))}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)
