"""The two sides of a backtest: what is in force, and what might be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from classifiers.packs import PackError, name_of_pack
from classifiers.yaml_source import SourceError, read_text
from policies import schema
from policies.faults import PolicyError
from policies.policy import Policy
from policies.schema import BoundPolicy
from proxy.backtests.replay import Side, Source
from proxy.backtests.result import Exchange
from proxy.config import ClassifiersConfig
from proxy.loading import PII, has_pii, served_packs
from proxy.yaml_source import ConfigError

NONE = ".none"
"""No folder below that of the corrected packs: they are looked up once, here, and named."""


def read(path: Path) -> Source:
    """A policy file.

    Raises:
        PolicyError: it cannot be read.
    """
    try:
        return Source(read_text(path), str(path))
    except SourceError as error:
        raise PolicyError(f"{path}:{error.line}: {error}") from None


def replaced(old: Sequence[Source], new: Iterable[Source]) -> tuple[Source, ...]:
    """The policies, those of a new one's name exchanged for it; further ones stand behind them.

    Raises:
        PolicyError: a policy cannot be understood, or two new ones have one name.
    """
    names = [schema.loads(one.text, one.place).name for one in old]
    result = list(old)
    taken: set[str] = set()
    for one in new:
        name = schema.loads(one.text, one.place).name
        if name in taken:
            raise PolicyError(f"{one.place}: two candidates are named {name!r}; rename one")
        taken.add(name)
        if name in names:
            result[names.index(name)] = one
        else:
            result.append(one)
    return tuple(result)


def side(
    config: ClassifiersConfig,
    policies: Sequence[Source],
    packs: Sequence[Path] = (),
    memory: Path | None = None,
) -> Side:
    """Policies and the classifiers that they ask for.

    Args:
        packs: candidates, each in the place of the classifier of its name.
        memory: folder of the encoder's work, None to keep nothing.

    Raises:
        PolicyError: a policy cannot be understood.
        ConfigError: a pack cannot be read, or two candidates are of one name.
    """
    written = [schema.loads(one.text, one.place) for one in policies]
    try:
        own = {name_of_pack(folder): folder for folder in served_packs(config)}
        new = {name_of_pack(folder): folder.resolve() for folder in packs}
    except PackError as error:
        raise ConfigError(f"the classifiers cannot be loaded: {error}") from None
    if len(new) < len(packs):
        raise ConfigError(
            f"two candidate packs are of one name among {', '.join(new)}; name one of each"
        )
    own |= new
    known = set(own) | {pattern.name for pattern in config.patterns} | {PII}
    # A FAQ's slots may ask for any of them; a name that nobody has is to be reported with all there are.
    wanted = _asked(written)
    every = any(policy.faqs() for policy in written) or not wanted <= known
    chosen = tuple(folder for name, folder in own.items() if every or name in wanted)
    pii = (PII,) if has_pii(config) and (every or PII in wanted) else ()
    limited = {"shipped": pii, "packs": chosen, "corrected": config.corrected / NONE, "threads": 1}
    return Side(config.model_copy(update=limited), tuple(policies), memory)


def _asked(policies: Iterable[Policy]) -> set[str]:
    return {
        leaf.classifier
        for policy in policies
        for rule in policy.rules
        for want in (True, False)
        for leaf in rule.when.positive(want)
    }


def exchanged(
    packs: Sequence[Path], before: Sequence[BoundPolicy], after: Sequence[BoundPolicy]
) -> list[Exchange]:
    """What candidate packs take the place of.

    Raises:
        ConfigError: no rule asks for one of them.
    """
    found: list[Exchange] = []
    for folder in packs:
        name = name_of_pack(folder)
        old, new = (_id(name, policies) for policies in (before, after))
        if new is None:
            raise ConfigError(
                f"{folder}: no rule asks for {name}, so this pack changes nothing; name a policy that does "
                "with --policy"
            )
        found.append(Exchange(old, new))
    return found


def _id(name: str, policies: Sequence[BoundPolicy]) -> str | None:
    """``name@version`` of the classifier of a name that rules ask for."""
    ids = (id for policy in policies for id in policy.classifiers)
    return next((id for id in ids if id.rpartition("@")[0] == name), None)


def both(*sides: Side) -> tuple[Side, ...]:
    """Sides that could share their classifiers, with the same of them: they are loaded once."""
    packs: dict[Path, None] = {}
    names: dict[str, set[Path]] = {}
    for one in sides:
        packs.update(dict.fromkeys(one.classifiers.packs))
        for folder in one.classifiers.packs:
            names.setdefault(name_of_pack(folder), set()).add(folder)
    if any(len(folders) > 1 for folders in names.values()):
        return sides
    shipped = tuple(dict.fromkeys(name for one in sides for name in one.classifiers.shipped))
    same = {"packs": tuple(packs), "shipped": shipped}
    return tuple(
        Side(one.classifiers.model_copy(update=same), one.policies, one.memory) for one in sides
    )
