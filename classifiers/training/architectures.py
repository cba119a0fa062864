"""Sentence encoders of several architectures, read and taken apart (extra ``train``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifiers.encoder import SPECIAL_TOKENS


class ExportError(ValueError):
    """An encoder cannot be exported; the message names the source, the fault and the fix."""


@dataclass(frozen=True, slots=True)
class Stack:
    """An encoder taken apart.

    Attributes:
        modules: its layers, lowest first.
        embed: token ids ``[B, T]`` -> hidden states ``[B, T, W]``.
        step: a layer, hidden states and an additive mask ``[B, 1, 1, T]`` -> hidden states.
        first_position: number of the first token's position: RoBERTa's kin count from 2.
    """

    modules: Sequence[Any]
    embed: Callable[[Any], Any]
    step: Callable[[Any, Any, Any], Any]
    first_position: int = 0


def _step(module: Any, hidden: Any, mask: Any) -> Any:
    result = module(hidden, attention_mask=mask)
    return result[0] if isinstance(result, tuple) else result


def _bert(model: Any) -> Stack:
    import torch

    def embed(ids: Any) -> Any:
        hidden = model.embeddings(input_ids=ids, token_type_ids=torch.zeros_like(ids))
        return model.embeddings_project(hidden) if hasattr(model, "embeddings_project") else hidden

    return Stack(model.encoder.layer, embed, _step)


def _roberta(model: Any) -> Stack:
    first = int(model.embeddings.padding_idx) + 1
    return Stack(model.encoder.layer, _bert(model).embed, _step, first)


def _distilbert(model: Any) -> Stack:
    return Stack(model.transformer.layer, lambda ids: model.embeddings(ids), _step)


def _mpnet(model: Any) -> Stack:
    def step(module: Any, hidden: Any, mask: Any) -> Any:
        return module(hidden, mask, model.encoder.compute_position_bias(hidden))[0]

    first = int(model.embeddings.padding_idx) + 1
    return Stack(model.encoder.layer, lambda ids: model.embeddings(input_ids=ids), step, first)


ARCHITECTURES: dict[str, Callable[[Any], Stack]] = {
    "bert": _bert,
    "camembert": _roberta,
    "distilbert": _distilbert,
    "electra": _bert,
    "mpnet": _mpnet,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
}
"""What can be exported, by ``model_type`` of config.json."""


def stack_of(model: Any) -> Stack:
    """Take a transformers encoder apart.

    Raises:
        ExportError: its architecture is none of :data:`ARCHITECTURES`.
    """
    kind = str(model.config.model_type)
    if kind not in ARCHITECTURES:
        raise ExportError(_unknown(str(model.config.name_or_path), kind))
    return ARCHITECTURES[kind](model)


def most_tokens(model: Any) -> int:
    """Tokens that the encoder reads at once, special ones included."""
    return int(model.config.max_position_embeddings) - stack_of(model).first_position


def _unknown(source: str, kind: str) -> str:
    known = ", ".join(ARCHITECTURES)
    return f"{source}: an encoder of architecture {kind!r} cannot be exported; take one of {known}"


def additive(mask: Any) -> Any:
    """An attention mask ``[B, T]`` of 0 and 1 as what is added to the attention's logits.

    By hand: transformers' own code looks at the values of the mask, which a traced graph must not
    depend on.
    """
    import torch

    return (1.0 - mask[:, None, None, :].to(torch.float32)) * -1e4


def mean_over(hidden: Any, mask: Any) -> Any:
    """The mean over the tokens of ``[B, T, ...]``, padding left out."""
    import torch

    weights = mask.to(torch.float32)
    weights = weights / weights.sum(dim=1, keepdim=True)
    weights = weights[:, :, None, None] if hidden.dim() == 4 else weights[:, :, None]
    return (hidden * weights).sum(dim=1)


def load_model(source: str | Path) -> Any:
    """A transformers encoder from a folder or a hub identifier, with plain (eager) attention.

    Raises:
        ExportError: it is not there, cannot be read, has no weights as safetensors, or is of an
            architecture that cannot be exported.
    """
    import torch
    import transformers
    from transformers.utils import logging

    quiet: Any = logging  # half of it is untyped
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    name = str(source)
    if Path(name).exists() and not (Path(name) / "config.json").is_file():
        raise ExportError(f"{name}: no config.json; name the folder that holds the encoder")
    try:
        _reachable(name)
        kind = transformers.AutoConfig.from_pretrained(name).model_type
        if kind not in ARCHITECTURES:
            raise ExportError(_unknown(name, kind))
        return transformers.AutoModel.from_pretrained(
            name,
            attn_implementation="eager",
            dtype=torch.float32,
            use_safetensors=True,  # the other format runs code when it is read
        ).eval()
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, ExportError):
            raise
        raise ExportError(_unreadable(name, error)) from None


def _reachable(name: str) -> None:
    """Fail at once where the hub cannot be reached; its client would try for a minute."""
    import socket
    import urllib.request
    from urllib.parse import urlsplit

    from huggingface_hub import constants, try_to_load_from_cache

    if Path(name).exists() or constants.HF_HUB_OFFLINE or urllib.request.getproxies():
        return
    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    socket.create_connection((address.hostname or "", port), timeout=10).close()


def _unreadable(name: str, error: Exception) -> str:
    why = next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
    if Path(name).exists():
        return f"{name}: the encoder cannot be read ({why}); it needs config.json and model.safetensors"
    return (
        f"{name}: neither a folder nor an encoder that the hub gives ({why}); download it where the "
        "hub can be reached, and name its folder"
    )


def tokenizer_of(source: str | Path) -> Any:
    """The tokenizer, as the library `tokenizers` has it; converted where there is no tokenizer.json.

    Raises:
        ExportError: there is none, or it cannot be converted.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    name, file = str(source), Path(source) / "tokenizer.json"
    try:
        if file.is_file():
            tokenizer = Tokenizer.from_file(str(file))
        else:
            tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True).backend_tokenizer
    except Exception as error:
        why = (str(error).splitlines() or [repr(error)])[0]
        raise ExportError(
            f"{name}: the tokenizer cannot be read or converted ({why}); add its tokenizer.json"
        ) from None
    if tokenizer.get_vocab_size() <= len(tokenizer.get_added_tokens_decoder()):
        # What transformers makes where the files are missing: special tokens and no words.
        raise ExportError(f"{name}: there is no tokenizer; add its tokenizer.json")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def special_tokens(tokenizer: Any, source: str | Path) -> tuple[str, str]:
    """What the tokenizer puts before and after a text.

    Raises:
        ExportError: it has neither such a rule nor the usual tokens.
    """
    whole, bare = tokenizer.encode("a"), tokenizer.encode("a", add_special_tokens=False)
    if len(whole.ids) == len(bare.ids) + 2 and whole.ids[1:-1] == bare.ids:
        return whole.tokens[0], whole.tokens[-1]
    for first, last in (SPECIAL_TOKENS, ("<s>", "</s>")):
        if None not in (tokenizer.token_to_id(first), tokenizer.token_to_id(last)):
            return first, last
    raise ExportError(
        f"{source}: the tokenizer puts no token before and after a text, and has neither [CLS] and "
        "[SEP] nor <s> and </s>; take another encoder"
    )
