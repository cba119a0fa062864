"""Classifiers from the configuration."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from classifiers.candidates import Shelf
from classifiers.faults import did_you_mean
from classifiers.packs import SHIPPED, hash_of_pack, name_of_pack
from classifiers.types import Classifier
from proxy.config import ClassifiersConfig
from proxy.yaml_source import ConfigError

log = logging.getLogger("doorman.packs")

PII = "pii"
SHIPPED_ENCODER = SHIPPED / "encoder"


def load_classifiers(config: ClassifiersConfig) -> list[Classifier]:
    """Load every classifier that the configuration names. Blocking: models are read from disk.

    Raises:
        ConfigError: an unknown name, a damaged pack, or two classifiers of one name.
    """
    from classifiers.packs import PackError

    try:
        loaded = [*_packs(config), *_patterns(config)]
    except (PackError, ValueError) as error:
        raise ConfigError(f"the classifiers cannot be loaded: {error}") from None
    names = [classifier.name for classifier in loaded]
    for name in sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"classifiers: two are named {name!r}; {_rename(name, config)}")
    return loaded


def _rename(name: str, config: ClassifiersConfig) -> str:
    """How two classifiers of one name can be told apart."""
    mend = "rename one (a pack is named by name: of its task, or by doorman train --update --name)"
    if name not in (*_chosen(config), *([PII] if has_pii(config) else [])):
        return mend
    return f"one of them is shipped: leave it out of classifiers.shipped, or {mend}"


def _packs(config: ClassifiersConfig) -> list[Classifier]:
    from classifiers.encoder import Encoder
    from classifiers.loading import load_packs

    folders = served_packs(config)
    if not folders:
        return []
    encoder = config.encoder or SHIPPED / "encoder"
    return load_packs(folders, Encoder(encoder, threads=threads_of(config)))


def threads_of(config: ClassifiersConfig) -> int:
    """How many texts, or stretches of one, are read at the same time."""
    return config.threads or min(4, cores())


def configured_packs(config: ClassifiersConfig) -> list[tuple[str, Path]]:
    """The packs that the operator configured, in their order: name and folder.

    Raises:
        ConfigError: a name that nothing shipped has.
        PackError: a folder is no pack.
    """
    folders = [*(SHIPPED / name for name in _chosen(config)), *config.packs]
    return [(name_of_pack(folder), folder) for folder in folders]


def served_packs(config: ClassifiersConfig) -> list[Path]:
    """The folders of the packs that are served: those that were configured, or corrected ones that were
    promoted in their places.

    Raises:
        ConfigError, PackError: see :func:`configured_packs`.
    """
    shelf = Shelf(config.corrected)
    served = []
    for name, folder in configured_packs(config):
        pointer = shelf.pointer(name)
        served.append(folder if pointer.live is None else shelf.place(name, pointer.live))
        if pointer.live is not None and pointer.base != hash_of_pack(folder):
            log.warning(
                "classifier %s: the corrected pack %s is served, which was made of another pack than %s; "
                "correct it anew, or go back with `doorman feedback undo %s`",
                name, pointer.live, folder, name,
            )  # fmt: skip
    return served


def _patterns(config: ClassifiersConfig) -> list[Classifier]:
    from classifiers.patterns import PatternClassifier
    from classifiers.pii import PiiClassifier

    own: list[Classifier] = [PatternClassifier(own.name, own) for own in config.patterns]
    if not has_pii(config):
        return own
    return [PiiClassifier(region=config.pii_region), *own]


def has_pii(config: ClassifiersConfig) -> bool:
    """Whether the built-in detectors of personal data are among the classifiers."""
    return config.shipped == "all" or PII in config.shipped


def _chosen(config: ClassifiersConfig) -> tuple[str, ...]:
    """The shipped packs that the configuration asks for."""
    from classifiers.packs import LOADED, SHIPPED_HEADS, SHIPPED_SPANS

    if config.shipped == "all":
        return LOADED
    packs = (*SHIPPED_HEADS, *SHIPPED_SPANS)
    known = (*packs, PII)
    for name in config.shipped:
        if name not in known:
            raise ConfigError(
                f"classifiers.shipped: no classifier {name!r} is shipped; "
                f"{did_you_mean(name, known, 'shipped classifiers')}"
            )
    return tuple(name for name in packs if name in config.shipped)


def cores() -> int:
    """Cores that this process may use; containers are often given fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
