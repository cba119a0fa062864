"""Tune the top of a sentence encoder for one task (extra ``train``).

The layers that stay as they are run once; what they give is kept, so that a round of training costs
the tuned layers alone. On a CPU that is a third of the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from classifiers.training.architectures import Stack, additive, mean_over, stack_of
from classifiers.training.tune_data import Goal, Ints, Pieces, balanced

Tensor = torch.Tensor
MOST_CACHED = 1 << 30
"""Bytes of hidden states that are kept; of more, the lower layers run anew in each round."""
SCALES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.7, 2.0)
"""Factors of the logits among which the held-out loss takes the best."""
SHARPNESS = 20.0
"""Logit of a text that equals the average of its label, at the start."""


@dataclass(frozen=True, slots=True)
class TuneSettings:
    """How to tune.

    Attributes:
        layers: how many of the top layers, or ``all``, the embeddings included.
        epochs: rounds at most; None: by the number of texts.
        batch: windows at a time.
        rate, head_rate: learning rates of the layers and of the classification layer.
        decay: of the weights.
        warmup: part of the steps in which the rate rises.
        smoothing: of the labels.
        average: what is kept are the weights averaged over the steps: of the average so far, this
            part stays at each step (Polyak and Juditsky 1992). They judge better than the last ones.
        patience: rounds without a better held-out loss after which it stops; None: all rounds are
            gone through and the last average is kept, so that nothing need be held out.
    """

    layers: int | Literal["all"] = 2
    epochs: int | None = None
    batch: int = 32
    rate: float = 2e-4
    head_rate: float = 2e-3
    decay: float = 0.01
    warmup: float = 0.1
    smoothing: float = 0.1
    average: float = 0.995
    patience: int | None = 3

    def rounds(self, texts: int) -> int:
        """Rounds at most: few texts need more of them."""
        return self.epochs or int(np.clip(60_000 // max(texts, 1), 8, 25))


@dataclass(frozen=True, slots=True)
class Tuned:
    """What came of it.

    Attributes:
        losses: held-out loss after each round, at the best scale; the model is that of the best, or
            the last one without ``patience``. None where nothing is held out.
        accuracy: share of the held-out windows that this model got right in all known labels.
        weight, bias: ``[width, labels]``, ``[labels]`` of the classification layer, over the mean of
            the top states as a unit vector.
        seconds: wall clock.
    """

    losses: tuple[float, ...]
    accuracy: float
    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    seconds: float


def device() -> torch.device:
    """The graphics card if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half(where: torch.device) -> Any:
    """Matrix products in bfloat16 where the processor has instructions for them: five times as fast
    on a core that has (measured: 260 against 53 billion operations a second)."""
    on_card = where.type == "cuda"
    # Emulated, it would be slower than what it replaces.
    able = torch.cuda.is_bf16_supported() if on_card else torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(where.type, dtype=torch.bfloat16, enabled=able)


def tune(
    model: Any,
    pieces: Pieces,
    goal: Goal,
    settings: TuneSettings,
    *,
    seed: int = 0,
    threads: int = 2,
    say: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """Tune a transformers encoder in place, under a linear layer over the mean of its top states.

    Args:
        model: from :func:`classifiers.training.architectures.load_model`.

    Raises:
        ValueError: there is no window to train on, or none is held out to say when to stop.
    """
    if not goal.train.any() or (goal.train.all() and settings.patience is not None):
        raise ValueError("there must be texts to tune on and texts that are held out; add some")
    started = time.perf_counter()
    before = torch.get_num_threads()
    torch.manual_seed(seed)
    try:
        tuning = _Tuning(model, pieces, goal, settings, seed, threads, say)
        losses, accuracy = tuning.run()
    finally:
        torch.set_num_threads(before)
    weight, bias = (one.detach().cpu().double().numpy() for one in tuning.head.parameters())
    return Tuned(losses, accuracy, weight.T, bias, time.perf_counter() - started)


class _Tuning:
    def __init__(
        self,
        model: Any,
        pieces: Pieces,
        goal: Goal,
        settings: TuneSettings,
        seed: int,
        threads: int,
        say: Callable[[str], None],
    ) -> None:
        self.threads = threads
        self.pieces, self.goal, self.settings, self.say = pieces, goal, settings, say
        self.device = device()
        self.model = model.to(self.device)
        self.stack: Stack = stack_of(model)
        depth = len(self.stack.modules)
        self.lower = 0 if settings.layers == "all" else max(depth - settings.layers, 0)
        self.lengths = np.asarray([len(ids) for ids in pieces.ids])
        self.random = np.random.default_rng(seed)
        self.truth = torch.from_numpy(goal.truth.astype(np.float32))
        self.weights = torch.from_numpy(balanced(goal).astype(np.float32))
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        parts = [model] if settings.layers == "all" else self.stack.modules[self.lower :]
        self.tuned = [parameter for part in parts for parameter in part.parameters()]
        for parameter in self.tuned:
            parameter.requires_grad_(True)
        self.starts = np.concatenate(([0], np.cumsum(self.lengths)))
        self.cached: Tensor | None = None
        self.head = torch.nn.Linear(int(model.config.hidden_size), goal.truth.shape[1])
        self.head.to(self.device)

    def run(self) -> tuple[tuple[float, ...], float]:
        """Losses of the rounds, and the accuracy of the best."""
        self._foretell(self.threads)
        self._cache()
        train, held = np.flatnonzero(self.goal.train), np.flatnonzero(~self.goal.train)
        self._begin(train)
        rounds = self.settings.rounds(len(train))
        steps = rounds * len(list(self._batches(train)))
        optimizer = torch.optim.AdamW(
            [
                {"params": self.tuned, "lr": self.settings.rate},
                {"params": self.head.parameters(), "lr": self.settings.head_rate},
            ],
            weight_decay=self.settings.decay,
            fused=True,  # otherwise it is a sixth of a step's time on a CPU
        )
        warm = max(1, int(steps * self.settings.warmup))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warm, max(0.0, (steps - step) / steps))
        )
        moving = [*self.tuned, *self.head.parameters()]
        average = [parameter.detach().clone() for parameter in moving]
        best, state, losses, accuracy, since = np.inf, average, [], 0.0, 0
        step = 0
        for number in range(1, rounds + 1):
            clock = time.perf_counter()
            self.model.train()
            for batch in self._batches(train):
                optimizer.zero_grad()
                with half(self.device):
                    logits = self._logits(batch)
                loss = self._loss(logits.float(), batch)
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(self.tuned, 1.0)
                optimizer.step()
                schedule.step()
                step += 1
                kept = min(self.settings.average, step / (step + 10))
                torch._foreach_lerp_(average, [one.detach() for one in moving], 1 - kept)
            if not len(held):
                self.say(f"round {number} of {rounds}: {time.perf_counter() - clock:.0f} s")
                continue  # the state to keep is the running average itself
            last = _swap(moving, average)
            held_loss, right = self._judge(held)
            _swap(moving, last)
            losses.append(held_loss)
            seconds = time.perf_counter() - clock
            self.say(
                f"round {number} of at most {rounds}: held-out loss {held_loss:.4f}, "
                f"{right:.1%} right, {seconds:.0f} s"
            )
            if self.settings.patience is None:
                accuracy = right
                continue
            since += 1
            if held_loss < best:
                best, accuracy, since = held_loss, right, 0
                state = [one.clone() for one in average]
            if since >= self.settings.patience:
                break
        _swap(moving, state)
        self.model.eval().to("cpu")
        return tuple(losses), accuracy

    # -- inside -----------------------------------------------------------------------------------

    def _foretell(self, threads: int) -> None:
        """Say how long it will take, by the time that one layer takes for a batch of usual length, and
        settle how many threads work."""
        usual = np.argsort(self.lengths)[len(self.lengths) // 2 :][: self.settings.batch]
        ids, mask = self._padded(usual)
        added = additive(mask)
        with torch.no_grad(), half(self.device):
            hidden = self.stack.embed(ids)
            once = {n: self._once(n, hidden, added) for n in sorted({1, threads})}
        # Where other work keeps the cores busy, threads wait for each other: one is many times as fast.
        best = threads if once[threads] < 0.8 * once[1] else 1
        torch.set_num_threads(best)
        a_token = once[best] / ids.numel()
        layers = len(self.stack.modules) - self.lower
        rounds = self.settings.rounds(int(self.goal.train.sum()))
        kept = self.starts[-1] * hidden.shape[-1] * 2 <= MOST_CACHED
        # A step back costs twice a step forward, and what lies around the products a third of both.
        passes = self.lower * (1 if kept else rounds) + 3 * layers * rounds
        total = a_token * float(self.starts[-1]) * passes * 4 / 3
        what = "all layers" if self.settings.layers == "all" else f"{layers} layers"
        self.say(
            f"tuning {what} on {self.goal.train.sum():,} windows on {self.device.type}: about "
            f"{_duration(total)} for at most {rounds} rounds, then export and a head"
        )

    def _once(self, threads: int, hidden: Tensor, mask: Tensor) -> float:
        """Seconds that one layer takes."""
        torch.set_num_threads(threads)
        seconds = []
        for _ in range(4):  # the first one warms up
            clock = time.perf_counter()
            self.stack.step(self.stack.modules[-1], hidden, mask)
            seconds.append(time.perf_counter() - clock)
        return float(np.median(seconds[1:]))

    def _cache(self) -> None:
        """Run the lower layers once, if what they give may be kept."""
        width = int(self.model.config.hidden_size)
        if not self.lower or self.starts[-1] * width * 2 > MOST_CACHED:
            return
        self.model.eval()
        cached = torch.empty((int(self.starts[-1]), width), dtype=torch.float16)
        with torch.no_grad(), half(self.device):
            for batch in self._batches(np.arange(len(self.lengths)), size=64):
                ids, mask = self._padded(batch)
                hidden = self._below(ids, additive(mask))
                for row, piece in enumerate(batch):
                    own = hidden[row, : self.lengths[piece]].to(torch.float16)
                    cached[self.starts[piece] : self.starts[piece + 1]] = own
        self.cached = cached

    def _below(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = self.stack.embed(ids)
        for layer in self.stack.modules[: self.lower]:
            hidden = self.stack.step(layer, hidden, mask)
        return hidden

    def _padded(self, batch: Ints) -> tuple[Tensor, Tensor]:
        longest = int(self.lengths[batch].max())
        pad = int(self.model.config.pad_token_id or 0)
        ids = torch.full((len(batch), longest), pad, dtype=torch.int64)
        for row, piece in enumerate(batch):
            ids[row, : self.lengths[piece]] = torch.from_numpy(self.pieces.ids[piece])
        return ids.to(self.device), self._mask(batch, longest)

    def _mask(self, batch: Ints, longest: int) -> Tensor:
        lengths = torch.from_numpy(self.lengths[batch])
        mask = (torch.arange(longest)[None, :] < lengths[:, None]).to(torch.int64)
        return mask.to(self.device)

    def _pooled(self, batch: Ints) -> Tensor:
        """``[batch, width]``: unit vectors."""
        if self.cached is None:
            ids, mask = self._padded(batch)
            added = additive(mask)
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.lower == 0):
                hidden = self._below(ids, added)
        else:
            longest = int(self.lengths[batch].max())
            mask = self._mask(batch, longest)
            added = additive(mask)
            own = [self.cached[self.starts[piece] : self.starts[piece + 1]] for piece in batch]
            hidden = torch.nn.utils.rnn.pad_sequence(own, batch_first=True)
            hidden = hidden.to(self.device, torch.float32)
        for layer in self.stack.modules[self.lower :]:
            hidden = self.stack.step(layer, hidden, added)
        return torch.nn.functional.normalize(mean_over(hidden, mask), dim=1)

    def _logits(self, batch: Ints) -> Tensor:
        logits: Tensor = self.head(self._pooled(batch))
        return logits

    def _begin(self, train: Ints) -> None:
        """The classification layer starts from the average text of each label: what a new layer
        would have to learn first, while it pulls the tuned ones out of shape."""
        sums = torch.zeros_like(self.head.weight)
        self.model.eval()
        with torch.no_grad(), half(self.device):
            for batch in self._batches(train, size=64):
                held = (self.truth[batch] == 1).to(self.device, torch.float32)
                sums += held.T @ self._pooled(batch).float()
            means = torch.nn.functional.normalize(sums, dim=1)
            middle = means.mean(dim=0) if len(means) > 1 else torch.zeros_like(means[0])
            self.head.weight.copy_((means - middle) * SHARPNESS)
            self.head.bias.zero_()

    def _loss(self, logits: Tensor, batch: Ints) -> Tensor:
        truth, weights = self.truth[batch].to(self.device), self.weights[batch].to(self.device)
        if self.goal.decision == "one_of":
            each = torch.nn.functional.cross_entropy(
                logits,
                truth.argmax(dim=1),
                reduction="none",
                label_smoothing=self.settings.smoothing if self.head.training else 0.0,
            )
            weights = weights[:, 0]
        else:
            each = torch.nn.functional.binary_cross_entropy_with_logits(
                logits, truth.clamp_min(0.0), reduction="none"
            )
        return (each * weights).sum() / weights.sum().clamp_min(1e-9)

    def _judge(self, held: Ints) -> tuple[float, float]:
        """Loss and accuracy."""
        self.model.eval()
        self.head.eval()
        logits, order = [], []
        with torch.no_grad(), half(self.device):
            for batch in self._batches(held, size=64):
                logits.append(self._logits(batch))
                order.append(batch)
            everything, rows = torch.cat(logits).float(), np.concatenate(order)
            # Certainty is calibrated later: a round that is merely too sure of itself is no worse.
            loss = min(float(self._loss(everything * scale, rows)) for scale in SCALES)
        self.head.train()
        truth, found = self.truth[rows], everything.cpu()
        if self.goal.decision == "one_of":
            right = found.argmax(dim=1) == truth.argmax(dim=1)
        else:
            right = (((found > 0) == (truth == 1)) | (truth < 0)).all(dim=1)
        return loss, float(right.to(torch.float32).mean())

    def _batches(self, pieces: Ints, size: int | None = None) -> Iterator[Ints]:
        """Windows of like length together: little is padded."""
        size = size or self.settings.batch
        order = self.random.permutation(pieces)
        pool = size * 50
        found = []
        for first in range(0, len(order), pool):
            part = order[first : first + pool]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            found += [part[at : at + size] for at in range(0, len(part), size)]
        for number in self.random.permutation(len(found)):
            yield found[number]


def _swap(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> list[Tensor]:
    """Put values in the place of the parameters' own, which are returned."""
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)
    return before


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"
