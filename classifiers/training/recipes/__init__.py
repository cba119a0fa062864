"""What the shipped packs are trained on.

A recipe turns the public data sets (a folder, given as an argument) and the rows written for this
project into training rows. Only sets whose licence lets weights trained on them ship under
Apache-2.0 are named here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from classifiers.training.data import Row
from classifiers.training.recipes.common import LICENCES
from classifiers.training.recipes.email_intent import EMAIL_INTENT, email_intent_rows
from classifiers.training.recipes.emotion import EMOTION, emotion_rows
from classifiers.training.recipes.entities import ENTITIES, entities_rows
from classifiers.training.recipes.intent import INTENT, intent_rows
from classifiers.training.recipes.jailbreak import jailbreak_rows
from classifiers.training.recipes.safety import safety_rows
from classifiers.training.recipes.sentiment import SENTIMENT, sentiment_rows
from classifiers.training.recipes.slots import SLOTS, slots_rows
from classifiers.training.recipes.spam import spam_rows
from classifiers.training.recipes.ticket import TICKET, ticket_rows
from classifiers.training.recipes.topic import TOPIC, topic_rows
from classifiers.types import MODERATION, Kind

__all__ = ["LICENCES", "RECIPES", "Recipe"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one shipped pack is made.

    Attributes:
        labels: in the order of the pack.
        decision: one_of, any_of or spans.
        pooling: how windows of long text are joined.
        rows: data folder -> rows of all splits.
        budget: false-positive budget of the default operating points.
        least: a label that is less likely than this never matches by default.
        description: for the card.
        own: the files in ``rows`` that it takes from.
    """

    name: str
    labels: tuple[str, ...]
    decision: Kind
    pooling: str
    rows: Callable[[Path], list[Row]]
    budget: float
    least: float
    description: str
    own: tuple[str, ...] = ("benign",)


_SHARED = ("benign", "intent", "jailbreak", "safety", "spam", "topic")
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "safety", MODERATION, "any_of", "max", safety_rows, 0.002, 0.6,
            "Harmful content and harmful requests, by the category names of the public moderation interface.",
            _SHARED,
        ),
        Recipe(
            "jailbreak", ("jailbreak",), "any_of", "max", jailbreak_rows, 0.006, 0.5,
            "Jailbreaks and prompt injection: text that attacks the model's instructions.",
            _SHARED,
        ),
        Recipe(
            "spam", ("spam",), "any_of", "max", spam_rows, 0.002, 0.7,
            "Unwanted advertising, lures and fraud in messages.",
            ("benign", "intent", "spam", "topic"),
        ),
        Recipe(
            "intent", INTENT, "one_of", "mean", intent_rows, 0.005, 0.5,
            "What a short chat message is for.",
            ("benign", "intent"),
        ),
        Recipe(
            "topic", TOPIC, "one_of", "mean", topic_rows, 0.02, 0.5,
            "What an everyday message is about.",
            ("benign", "topic"),
        ),
        Recipe(
            "sentiment", SENTIMENT, "one_of", "mean", sentiment_rows, 0.02, 0.5,
            "How the writer judges what the text is about, in five steps.",
            ("benign", "sentiment"),
        ),
        Recipe(
            "emotion", EMOTION, "one_of", "mean", emotion_rows, 0.02, 0.5,
            "Which feeling the writer shows; neutral if none.",
            ("benign", "emotion"),
        ),
        Recipe(
            "ticket", TICKET, "one_of", "mean", ticket_rows, 0.02, 0.5,
            "What a message to a support desk is about.",
            ("benign", "ticket"),
        ),
        Recipe(
            "email_intent", EMAIL_INTENT, "one_of", "mean", email_intent_rows, 0.02, 0.5,
            "What an e-mail wants.",
            ("benign", "email_intent"),
        ),
        Recipe(
            "entities", ENTITIES, "spans", "max", entities_rows, 0.02, 0.0,
            "Names of people, organisations and places, dates, times, addresses and products in a text.",
            ("entities",),
        ),
        Recipe(
            "slots", SLOTS, "spans", "max", slots_rows, 0.02, 0.0,
            "An example: the slots of a request to book travel or a table.",
            ("slots",),
        ),
    )
}  # fmt: skip
