"""Which classifiers may be asked, by name and by version, while they are exchanged under way.

A policy is bound to one version of a classifier, with its thresholds, and asks for exactly that one
as ``name@version``. So a request that began before an exchange is decided by the old classifier at the
old thresholds, one that begins after it by the new one at the new ones, and none by a mixture.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

from classifiers.types import Classifier

_MOST_SETS = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """A classifier that is asked: by what ``name`` its results are told, and whether it is a
    candidate whose results stand ``beside``."""

    name: str
    beside: bool = False


@dataclass(frozen=True, slots=True)
class _State:
    """All of it, exchanged as a whole: a reader takes it once and mixes nothing up.

    Attributes:
        current: in force, by name.
        beside: candidates, by the name of what they would replace.
        admitted: what policies are being bound to, to be tested.
        retired: by name, what was in force before.
        by_id: all of them.
    """

    current: Mapping[str, Classifier]
    beside: Mapping[str, Classifier] = field(default_factory=dict)
    admitted: tuple[Classifier, ...] = ()
    retired: Mapping[str, Classifier] = field(default_factory=dict)
    by_id: dict[str, Classifier] = field(init=False)

    def __post_init__(self) -> None:
        known = (*self.retired.values(), *self.admitted)
        every = (*known, *self.beside.values(), *self.current.values())
        object.__setattr__(self, "by_id", {id_of(classifier): classifier for classifier in every})


class Roster:
    """The classifiers in force, the candidates that are tried beside them, and those that requests
    under way may still ask for.

    Args:
        classifiers: in force, each with a name of its own.
    """

    def __init__(self, classifiers: Iterable[Classifier]) -> None:
        current: dict[str, Classifier] = {}
        for classifier in classifiers:
            if classifier.name in current:
                raise ValueError(f"two classifiers are named {classifier.name!r}; rename one")
            current[classifier.name] = classifier
        self._state = _State(current)
        self._known: tuple[_State, dict[frozenset[str], Mapping[str, Asked]]] = (self._state, {})
        self._lent: WeakValueDictionary[str, Classifier] = WeakValueDictionary()

    @property
    def current(self) -> Mapping[str, Classifier]:
        """Those in force, by name."""
        return self._state.current

    @property
    def beside(self) -> Mapping[str, Classifier]:
        """Candidates, by the name of what they would replace."""
        return self._state.beside

    def asked(self, names: Collection[str] | None) -> Mapping[str, Asked]:
        """``name@version`` of everything that is to be asked for these, candidates included.

        Args:
            names: names, or names with versions; all in force by default.

        Raises:
            ValueError: there is no such classifier.
        """
        state = self._state
        # Policies ask for the same set with every request: its answers are found by this very object.
        held = self._known if self._known[0] is state else (state, {})
        if isinstance(names, frozenset) and (same := held[1].get(names)) is not None:
            return same
        found: dict[str, Asked] = {}
        lent = False
        for asked in state.current if names is None else names:
            own, id = state.by_id.get(asked), asked
            if own is None:
                own = state.current.get(asked) or self._lent.get(asked)
                lent = lent or asked not in state.current
                if own is None:
                    known = ", ".join(sorted(state.current)) or "none"
                    raise ValueError(f"no classifier is named {asked!r}; there are: {known}")
                id = id_of(own)
            found[id] = Asked(own.name)
        for name, candidate in state.beside.items():
            if id_of(state.current[name]) in found:
                found.setdefault(id_of(candidate), Asked(name, beside=True))
        if isinstance(names, frozenset) and not lent and len(held[1]) < _MOST_SETS:
            held[1][names] = found
            self._known = held
        return found

    def find(self, id: str) -> Classifier | None:
        """A classifier by ``name@version``; None where it is gone."""
        return self._state.by_id.get(id) or self._lent.get(id.rpartition("@")[0])

    def lend(self, classifier: Classifier) -> None:
        """Let a classifier be asked by its name, which no other ever has, for as long as somebody
        holds it: those that belong to a policy come and go with it, and are not in ``current``."""
        self._lent[classifier.name] = classifier

    def lent(self, name: str) -> Classifier | None:
        """A classifier that was lent and is still held, by its name."""
        return self._lent.get(name)

    def admit(self, *classifiers: Classifier) -> None:
        """Let these be asked as ``name@version`` too, so that policies can be bound to them and tested;
        until the next call, or :meth:`exchange`."""
        self._state = replace(self._state, admitted=classifiers)

    def exchange(
        self,
        current: Mapping[str, Classifier],
        beside: Mapping[str, Classifier] | None = None,
        retire: Callable[[Classifier], Classifier] = lambda classifier: classifier,
    ) -> None:
        """Put these in force. Of each name the one that was in force before can still be asked as
        ``name@version``, by requests that began with it.

        Args:
            current: by name.
            beside: candidates, by the name of one in force.
            retire: makes of one that was in force what is kept of it.
        """
        before = self._state
        gone = {
            name: retire(old)
            for name, old in before.current.items()
            if name not in current or id_of(current[name]) != id_of(old)
        }
        self._state = _State(dict(current), dict(beside or {}), (), {**before.retired, **gone})


def id_of(classifier: Classifier) -> str:
    """``name@version``."""
    return f"{classifier.name}@{classifier.version}"
