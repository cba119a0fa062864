"""Which packs a running gateway serves, and how one takes the place of another. Blocking throughout."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from classifiers import restack
from classifiers.candidates import Shelf
from classifiers.heads import HeadClassifier
from classifiers.packs import PackError
from classifiers.types import Classifier
from policies.faults import PolicyError
from policies.schema import BoundPolicy
from proxy.errors import NotFound, NotPromoted
from proxy.feedback.cases import outcomes
from proxy.feedback.cuts import Cut, cuts
from proxy.feedback.trial import Trial
from proxy.ledgers.feedback import Feedback
from proxy.loading import configured_packs

if TYPE_CHECKING:
    from proxy.gateway import Gateway

log = logging.getLogger("doorman.feedback")


class Served:
    """The packs that are served, and the candidates beside them. Its methods must take turns.

    Args:
        gateway: loaded before any method is called.
        shelf: of the corrected packs.
    """

    def __init__(self, gateway: Gateway, shelf: Shelf) -> None:
        self._gateway = gateway
        self._shelf = shelf
        self.trials: dict[str, Trial] = {}
        self._live: dict[str, str | None] = {}
        self._refused: dict[str, str | None] = {}
        self._cuts: tuple[tuple[object, ...], Sequence[BoundPolicy], list[Cut]] | None = None

    def bases(self) -> dict[str, Path]:
        """The configured packs that can be corrected: name -> folder."""
        known = self._gateway.engine.classifiers
        heads = [name for name, one in known.items() if isinstance(one, HeadClassifier)]
        if not heads:
            return {}
        configured = configured_packs(self._gateway.config.classifiers)
        return {name: folder for name, folder in configured if name in heads}

    def base(self, name: str) -> Path:
        """The configured pack of a classifier.

        Raises:
            NotFound: there is none that can be corrected.
        """
        found = self.bases().get(name)
        if found is None:
            raise NotFound("No such classifier is loaded that can be corrected.")
        return found

    def begin(self) -> None:
        """Find what was loaded; what another process has promoted since then is followed."""
        self._live = {name: self._loaded(name) for name in self.bases()}

    def _loaded(self, name: str) -> str | None:
        short = self._gateway.engine.classifiers[name].version
        live = self._shelf.pointer(name).live
        return short if short == live or self._shelf.candidate(name, short) else None

    def put(
        self,
        name: str,
        live: str | None,
        corrections: Sequence[Feedback],
        commit: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve another pack of a classifier: load it, bind the policies to it, run their tests and those
        of the corrections, commit, and only then let new requests have it.

        Args:
            live: name of a candidate's folder; None for the configured pack.
            commit: makes it last; what it raises keeps all as it was.

        Raises:
            NotPromoted: it cannot be loaded, or a test fails; all is as before.
        """
        gateway, roster = self._gateway, self._gateway.engine.roster
        folder = self.base(name) if live is None else self._shelf.place(name, live)
        try:
            made = restack.replaced(roster.current, name, folder)
            roster.admit(made.pack)

            def accept(policies: Sequence[BoundPolicy]) -> None:
                ran = outcomes(
                    policies, corrections, made.current, gateway.engine.classify_blocking
                )
                if faults := [str(one) for one in ran if not one.holds]:
                    raise PolicyError("\n".join(faults))
                commit()
                self.trials.pop(name, None)
                self.exchange(made.current)
                self._live[name] = live
                self._refused.pop(name, None)

            gateway.policies.load(made.current, accept)
        except (PackError, PolicyError, OSError) as error:
            raise NotPromoted(str(error)) from None
        finally:
            roster.admit()

    def cuts(self, name: str, live: str) -> list[Cut]:
        """What a candidate does to the thresholds of the policies in force; nothing where it cannot be
        loaded."""
        gateway = self._gateway
        current = gateway.policies.current
        key = (name, live, *map(id, current))
        if self._cuts is not None and self._cuts[0] == key:
            return self._cuts[2]
        try:
            folder, known = self._shelf.place(name, live), gateway.engine.classifiers
            made = restack.beside(known, name, folder).pack
        except PackError:
            return []
        found = cuts(current, {**known, name: made}, name, gateway.policies.open_faq)
        # Held with the policies, so that none of them can be another one of the same id.
        self._cuts = (key, current, found)
        return found

    def exchange(self, current: Mapping[str, Classifier]) -> None:
        """Put classifiers in force, with the candidates beside them."""
        beside = {name: trial.candidate for name, trial in self.trials.items()}
        self._gateway.engine.roster.exchange(current, beside, restack.alone)

    def follow(self) -> None:
        """Serve what another process has promoted, and bind trials to policies that were reloaded."""
        gateway = self._gateway
        for name, served in list(self._live.items()):
            with suppress(PackError):
                live = self._shelf.pointer(name).live
                if live == served or self._refused.get(name, served) == live:
                    continue
                try:
                    self.put(name, live, ())
                    log.info("classifier %s: %s is served", name, live or "the configured pack")
                except NotPromoted as error:
                    self._refused[name] = live
                    log.error("classifier %s: %s is not served: %s", name, live, error)
        for trial in list(self.trials.values()):
            if not trial.is_bound_to(gateway.policies.current):
                with suppress(PolicyError):
                    trial.bind(
                        gateway.policies.current,
                        gateway.engine.classifiers,
                        gateway.policies.open_faq,
                    )

    def try_beside(self, name: str, short: str, by: str) -> Trial:
        """Let a candidate score what the classifier scores.

        Raises:
            NotPromoted: it cannot be loaded, or the policies cannot be bound to it.
        """
        gateway = self._gateway
        try:
            made = restack.beside(gateway.engine.classifiers, name, self._shelf.place(name, short))
            trial = Trial(name, made.pack, by)
            trial.bind(gateway.policies.current, made.current, gateway.policies.open_faq)
        except (PackError, PolicyError) as error:
            raise NotPromoted(str(error)) from None
        self.trials[name] = trial
        self.exchange(made.current)
        return trial
