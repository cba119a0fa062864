"""Fit a chain of tags over words: the likelihood of all texts at once, and its slope.

The features are the encoder's states of each word, reduced to their main directions, and the hashed
spelling. One convex problem, solved by L-BFGS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from classifiers.chain import NEVER, Wide, allowed_steps
from classifiers.tokens import NEIGHBOURS


@dataclass(frozen=True, slots=True)
class Sentences:
    """The words of many texts, text after text.

    Attributes:
        states: ``[words, directions]`` float32.
        lexical: ``[words, buckets]``, ones.
        tags: ``[words]`` the true tag.
        starts: ``[texts + 1]`` where each text begins among the words.
        weights: ``[texts]`` factor in the loss.
    """

    states: npt.NDArray[np.float32]
    lexical: csr_matrix
    tags: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    weights: Wide

    def choose(self, texts: Sequence[int]) -> Sentences:
        """Some of the texts."""
        rows = np.concatenate([np.arange(self.starts[t], self.starts[t + 1]) for t in texts])
        lengths = np.diff(self.starts)[list(texts)]
        return Sentences(
            self.states[rows],
            self.lexical[rows],
            self.tags[rows],
            np.concatenate(([0], np.cumsum(lengths))),
            self.weights[list(texts)],
        )


@dataclass(frozen=True, slots=True)
class Chain:
    """Weights: ``states [NEIGHBOURS, directions, tags]``, ``lexical [buckets, tags]``, ``bias [tags]``,
    ``start [tags]``, ``follow [tags, tags]``."""

    states: Wide
    lexical: Wide
    bias: Wide
    start: Wide
    follow: Wide

    def flat(self) -> Wide:
        """All weights as one vector."""
        return np.concatenate([getattr(self, field.name).ravel() for field in fields(self)])

    def like(self, flat: Wide) -> Chain:
        """A vector of :meth:`flat` as weights again."""
        parts, first = [], 0
        for field in fields(self):
            shape = getattr(self, field.name).shape
            size = int(np.prod(shape))
            parts.append(flat[first : first + size].reshape(shape))
            first += size
        return Chain(*parts)

    @classmethod
    def zeros(cls, directions: int, buckets: int, tags: int) -> Chain:
        """The chain that knows nothing."""
        return cls(
            np.zeros((NEIGHBOURS, directions, tags)),
            np.zeros((buckets, tags)),
            np.zeros(tags),
            np.zeros(tags),
            np.zeros((tags, tags)),
        )

    def scores(self, data: Sentences) -> Wide:
        """``[words, tags]``."""
        tags = len(self.bias)
        weight = np.hstack(list(self.states)).astype(np.float32)
        own, to_right, to_left = np.split((data.states @ weight).astype(np.float64), NEIGHBOURS, 1)
        first, last = data.starts[:-1], data.starts[1:] - 1
        to_right[last] = 0
        to_left[first] = 0
        scores: Wide = own + data.lexical @ self.lexical + self.bias
        scores[1:] += to_right[:-1]
        scores[:-1] += to_left[1:]
        return scores.reshape(-1, tags)


def fit_chain(
    data: Sentences,
    begin: Chain,
    *,
    states_penalty: float,
    lexical_penalty: float,
    iterations: int,
) -> Chain:
    """The weights that make the true tags most likely, less the penalties.

    Args:
        data: at least one word in every text.
        begin: where the search starts.
        states_penalty, lexical_penalty: half of this times the squared weights is added to the loss.
        iterations: at most so many.
    """
    penalties = Chain(
        np.full_like(begin.states, states_penalty),
        np.full_like(begin.lexical, lexical_penalty),
        np.full_like(begin.bias, 1e-3),
        np.full_like(begin.start, 0.1),
        np.full_like(begin.follow, 0.1),
    ).flat()
    likelihood = Likelihood(data)

    def loss(flat: Wide) -> tuple[float, Wide]:
        value, slope = likelihood(begin.like(flat))
        return value + float(penalties @ (flat * flat)) / 2, slope + penalties * flat

    result = minimize(
        loss,
        begin.flat(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations, "maxcor": 8, "ftol": 1e-6},
    )
    return begin.like(result.x)


class Likelihood:
    """Negative log-likelihood of the true tags, with its slope, for all texts in step."""

    def __init__(self, data: Sentences) -> None:
        self.data = data
        self.transposed = data.lexical.T.tocsr()
        lengths = np.diff(data.starts)
        order = np.argsort(-lengths, kind="stable")
        # Words at place t of every text that is so long; longer texts first, so rows stay aligned.
        self.steps = [
            data.starts[:-1][order[: int((lengths > place).sum())]] + place
            for place in range(int(lengths.max()))
        ]
        self.by_row = data.weights[order]
        self.word_weights = np.repeat(data.weights, lengths)
        self.last = np.zeros(len(data.tags), dtype=bool)
        self.last[data.starts[1:] - 1] = True
        self.first = data.starts[:-1]

    def __call__(self, chain: Chain) -> tuple[float, Wide]:
        data = self.data
        scores = chain.scores(data)
        words = np.arange(len(scores))
        may_start, may_follow = allowed_steps(len(chain.start))
        start = np.where(may_start, chain.start, NEVER)
        follow = np.where(may_follow, chain.follow, NEVER)
        total, marginals, pairs = self._expect(scores, np.exp(start), np.exp(follow))
        gold = (scores[words, data.tags] * self.word_weights).sum()
        gold += (start[data.tags[self.first]] * data.weights).sum()
        here = np.flatnonzero(~self.last)
        came, went = data.tags[here], data.tags[here + 1]
        gold += (follow[came, went] * self.word_weights[here]).sum()
        slope_start = marginals[self.first].sum(axis=0)
        np.subtract.at(slope_start, data.tags[self.first], data.weights)
        np.subtract.at(pairs, (came, went), self.word_weights[here])
        marginals[words, data.tags] -= self.word_weights
        return total - float(gold), self._slope(chain, marginals, slope_start, pairs)

    def _slope(self, chain: Chain, errors: Wide, start: Wide, pairs: Wide) -> Wide:
        to_right, to_left = np.zeros_like(errors), np.zeros_like(errors)
        to_right[:-1] = errors[1:]
        to_right[self.last] = 0
        to_left[1:] = errors[:-1]
        to_left[self.first] = 0
        blocks = np.hstack([errors, to_right, to_left]).astype(np.float32)
        states = (self.data.states.T @ blocks).astype(np.float64)
        return Chain(
            np.stack(np.split(states, NEIGHBOURS, axis=1)),
            self.transposed @ errors,
            errors.sum(axis=0),
            start,
            pairs,
        ).flat()

    def _expect(self, scores: Wide, start: Wide, follow: Wide) -> tuple[float, Wide, Wide]:
        """Weighted log-sum over all paths, marginals ``[words, tags]`` and of pairs ``[tags, tags]``."""
        peaks = scores.max(axis=1)
        local = np.exp(scores - peaks[:, None])
        ahead: list[Wide] = []
        scales: list[Wide] = []
        total = float((peaks * self.word_weights).sum())
        for place, rows in enumerate(self.steps):
            row = (
                start * local[rows]
                if not place
                else (ahead[-1][: len(rows)] @ follow) * local[rows]
            )
            scale = row.sum(axis=1)
            total += float((np.log(scale) * self.by_row[: len(rows)]).sum())
            ahead.append(row / scale[:, None])
            scales.append(scale)
        marginals = np.empty_like(scores)
        pairs = np.zeros_like(follow)
        back = np.ones_like(ahead[-1])
        for place in range(len(self.steps) - 1, -1, -1):
            rows = self.steps[place]
            weights = self.by_row[: len(rows), None]
            if len(back) < len(rows):
                back = np.vstack([back, np.ones((len(rows) - len(back), back.shape[1]))])
            marginals[rows] = ahead[place] * back * weights
            if place:
                came = local[rows] * back / scales[place][:, None]
                pairs += follow * (ahead[place - 1][: len(rows)].T @ (came * weights))
                back = came @ follow.T
        return total, marginals, pairs
