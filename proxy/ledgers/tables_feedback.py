"""The table of feedback: what people said of decisions, and the texts they gave with it."""

from __future__ import annotations

from sqlalchemy import Column, Double, Index, Integer, String, Table, Text

from proxy.ledgers.tables import metadata

feedback = Table(
    "doorman_feedback",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("decision_id", String(64), nullable=False),
    Column("reporter", Text, nullable=False),  # name of the key; empty where there are no keys
    Column("time", Double, nullable=False),  # unix seconds, of what was said last
    Column("verdict", String(8), nullable=False),  # correct, wrong
    # reported: waits for a person; accepted: a correction that counts, or, without labels, a decision that
    # was wrong with nothing to train; noted: asks for nothing; rejected: a person said no
    Column("state", String(16), nullable=False),
    Column("stage", String(8), nullable=False),  # input, output: where the text stood
    # Of the decision; empty where no rule decided.
    Column("policy", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("classifier", Text, nullable=False),  # that was wrong; empty while nobody has said
    Column("labels", Text),  # that are right, a JSON list; null while nobody has said
    Column("text", Text),  # the user's, from who gave or confirmed it; null where there is none
    Column("comment", Text),
    Column("judge", Text),  # who accepted or rejected it
    Column("judged", Double),  # unix seconds
)
Index("doorman_feedback_once", feedback.c.decision_id, feedback.c.reporter, unique=True)
Index("doorman_feedback_state", feedback.c.state, feedback.c.classifier, feedback.c.time)
Index("doorman_feedback_time", feedback.c.time)
