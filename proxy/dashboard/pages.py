"""The table of pages: one line each, in the order of the navigation."""

from __future__ import annotations

from proxy.dashboard import (
    assets,
    backtest,
    classifiers,
    decision,
    decisions,
    entry,
    keys,
    overview,
    playground,
    policies,
    retrain,
    review,
    savings,
)
from proxy.dashboard.kit import HOME, Method, Page

BOTH: tuple[Method, ...] = ("GET", "POST")
PAGES: tuple[Page, ...] = (
    Page(HOME, overview.overview, title="Overview"),
    Page(decisions.DECISIONS, decisions.decisions, title="Decisions"),
    Page(f"{decisions.DECISIONS}/new", decisions.new),
    Page(f"{decisions.DECISIONS}/{{id}}", decision.decision),
    Page(f"{decisions.DECISIONS}/{{id}}/why", decision.why, BOTH),
    Page(review.REVIEW, review.review, title="Review", notices=review.NOTICES),
    Page(f"{review.REVIEW}/label", review.label, ("POST",)),
    Page(policies.POLICIES, policies.policies, title="Policies"),
    Page(f"{policies.POLICIES}/of/{{name:path}}/tests", policies.tests, ("POST",)),
    Page(f"{policies.POLICIES}/of/{{name:path}}/threshold", policies.lever),
    Page(f"{policies.POLICIES}/of/{{name:path}}/what-if", policies.what_if),
    Page(f"{policies.POLICIES}/of/{{name:path}}", policies.policy),
    Page(backtest.BACKTEST, backtest.page, title="Backtest", notices=backtest.NOTICES),
    Page(f"{backtest.BACKTEST}/start", backtest.start, ("POST",)),
    Page(f"{backtest.BACKTEST}/stop", backtest.stop, ("POST",)),
    Page(f"{backtest.BACKTEST}/job", backtest.progress),
    Page(classifiers.CLASSIFIERS, classifiers.classifiers, title="Classifiers"),
    Page(f"{classifiers.CLASSIFIERS}/of/{{name}}", classifiers.classifier),
    Page(f"{retrain.RETRAIN}/{{name}}", retrain.retrain, notices=retrain.NOTICES),
    Page(f"{retrain.RETRAIN}/{{name}}/job", retrain.job),
    *(Page(f"{retrain.RETRAIN}/do/{word}", do, ("POST",)) for word, do in retrain.ACTIONS.items()),
    Page(savings.SAVINGS, savings.page, title="Savings"),
    Page(playground.PLAYGROUND, playground.playground, title="Playground"),
    Page(f"{playground.PLAYGROUND}/look", playground.result, ("POST",)),
    Page(f"{playground.PLAYGROUND}/why", playground.why, ("POST",)),
    Page(keys.KEYS, keys.keys, title="Keys and limits", notices=keys.NOTICES),
    Page(f"{keys.KEYS}/create", keys.create, ("POST",)),
    Page(f"{keys.KEYS}/rotate", keys.rotate, ("POST",)),
    Page(f"{keys.KEYS}/revoke", keys.revoke, ("POST",)),
    Page(f"{keys.KEYS}/of/{{name:path}}", keys.key),
    Page(f"{HOME}/login", entry.login, BOTH, open=True),
    Page(f"{HOME}/logout", entry.logout, ("POST",)),
    Page(f"{HOME}/static/{{name:path}}", assets.static, bare=True),
    Page(f"{HOME}/{{path:path}}", entry.nowhere, BOTH),  # the last: it fits everything
)
