"""The classifier engine: memory, batching, faults, overload, and that every waiter gets an answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence

import pytest

from classifiers.engine import ClassifierEngine, EngineClosed, Overloaded
from classifiers.types import Batch, OperatingPoint, Prediction


class Lengths:
    """Scores a text by its length and remembers every batch it was given."""

    labels = ("long",)
    kind = "any_of"
    version = "1"

    def __init__(self, name: str = "lengths") -> None:
        self.name = name
        self.batches: list[tuple[str, ...]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def thresholds(self, labels: Sequence[str], point: OperatingPoint) -> Mapping[str, float]:
        return dict.fromkeys(labels, 0.5)

    def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
        self.entered.set()
        assert self.gate.wait(10)
        self.batches.append(batch.texts)
        if "die" in batch.texts:
            raise SystemExit("the worker dies")
        if "poison" in batch.texts:
            raise RuntimeError("the text was poison")
        return [(Prediction(self.name, "long", min(1.0, len(t) / 100)),) for t in batch.texts]


@pytest.fixture
def lengths() -> Lengths:
    return Lengths()


@pytest.fixture
def engine(lengths: Lengths) -> Iterator[ClassifierEngine]:
    engine = ClassifierEngine([lengths, Lengths("other")])
    yield engine
    lengths.gate.set()
    engine.close()


async def test_results_come_in_the_order_of_the_texts(engine: ClassifierEngine) -> None:
    found = await engine.classify(["a" * 10, "a" * 50, "a" * 10])
    assert [f.predictions["lengths"][0].score for f in found] == [0.1, 0.5, 0.1]
    assert all(set(f.predictions) == {"lengths", "other"} for f in found)


async def test_equal_texts_are_classified_once(engine: ClassifierEngine, lengths: Lengths) -> None:
    await engine.classify(["hello"] * 20 + ["world"])
    assert sorted(text for batch in lengths.batches for text in batch) == ["hello", "world"]


async def test_a_text_seen_before_is_remembered(engine: ClassifierEngine, lengths: Lengths) -> None:
    first = await engine.classify(["hello"])
    second = await engine.classify(["hello"])
    assert not first[0].cached
    assert second[0].cached
    assert second[0].predictions == first[0].predictions
    assert len(lengths.batches) == 1


async def test_only_what_is_missing_is_asked(engine: ClassifierEngine, lengths: Lengths) -> None:
    await engine.classify(["hello"], ["other"])
    assert lengths.batches == []
    found = await engine.classify(["hello"], ["lengths"])
    assert set(found[0].predictions) == {"lengths"}
    assert lengths.batches == [("hello",)]


async def test_waiting_texts_become_one_batch(engine: ClassifierEngine, lengths: Lengths) -> None:
    lengths.gate.clear()
    first = asyncio.create_task(engine.classify(["first"]))
    await asyncio.to_thread(lengths.entered.wait, 10)
    rest = [asyncio.create_task(engine.classify([f"text {n}"])) for n in range(10)]
    await asyncio.sleep(0)
    lengths.gate.set()
    await asyncio.gather(first, *rest)
    assert [len(batch) for batch in lengths.batches] == [1, 10]


async def test_nobody_waits_behind_a_book(engine: ClassifierEngine, lengths: Lengths) -> None:
    lengths.gate.clear()
    book = asyncio.create_task(engine.classify(["a long text " * 1000], ["lengths"]))
    await asyncio.to_thread(lengths.entered.wait, 10)
    found = await engine.classify(["short"], ["other"])
    assert found[0].predictions["other"]
    assert not book.done()
    lengths.gate.set()
    assert (await book)[0].predictions["lengths"][0].score == 1.0


async def test_a_bad_text_does_not_take_its_neighbours_along(engine: ClassifierEngine) -> None:
    good, bad = await engine.classify(["good", "poison"])
    assert good.predictions["lengths"][0].score == 0.04
    assert not good.errors
    assert bad.errors == {
        "lengths": "RuntimeError in classifier lengths",
        "other": "RuntimeError in classifier other",
    }
    assert not bad.predictions


async def test_failures_are_not_remembered(engine: ClassifierEngine, lengths: Lengths) -> None:
    await engine.classify(["poison"])
    asked = len(lengths.batches)
    await engine.classify(["poison"])
    assert len(lengths.batches) > asked


async def test_overload_is_answered_at_once(lengths: Lengths) -> None:
    engine = ClassifierEngine([lengths], max_waiting=4)
    lengths.gate.clear()
    first = asyncio.create_task(engine.classify(["first"]))
    await asyncio.to_thread(lengths.entered.wait, 10)
    waiting = asyncio.create_task(engine.classify(["a", "b", "c"]))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="3 texts wait for the classifiers, 2 more"):
        await engine.classify(["d", "e"])
    lengths.gate.set()
    assert len(await first) + len(await waiting) == 4
    engine.close()


async def test_a_request_that_is_too_large_by_itself_is_refused(lengths: Lengths) -> None:
    engine = ClassifierEngine([lengths], max_waiting=4)
    with pytest.raises(Overloaded, match="5 more would exceed max_waiting 4"):
        await engine.classify([str(n) for n in range(5)])
    assert lengths.batches == []
    engine.close()


async def test_callers_are_served_in_turn(lengths: Lengths) -> None:
    engine = ClassifierEngine([lengths], max_batch=4)
    lengths.gate.clear()
    first = asyncio.create_task(engine.classify(["first"]))
    await asyncio.to_thread(lengths.entered.wait, 10)
    crowd = asyncio.create_task(engine.classify([f"crowd {n}" for n in range(100)]))
    await asyncio.sleep(0)
    late = asyncio.create_task(engine.classify(["late"]))
    await asyncio.sleep(0)
    lengths.gate.set()
    await asyncio.gather(first, crowd, late)
    assert "late" in lengths.batches[1]
    engine.close()


async def test_a_refused_request_leaves_no_work_behind(lengths: Lengths) -> None:
    engine = ClassifierEngine([lengths], max_waiting=2)
    book = "a long text " * 1000
    with pytest.raises(Overloaded):
        await engine.classify(["short", *(f"{n} {book}" for n in range(3))])
    await engine.classify(["next"])
    assert lengths.batches[-1] == ("next",)
    engine.close()


async def test_large_results_take_the_room_of_many(lengths: Lengths) -> None:
    class Many(Lengths):
        def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
            self.batches.append(batch.texts)
            return [(Prediction("many", "long", 1.0),) * int(text) for text in batch.texts]

    many = Many("many")
    engine = ClassifierEngine([many], cache_entries=1000)
    for text in ("15", "8000", "8001", "8002", "15"):
        await engine.classify([text])
    # The small result went when two large ones had filled the cache.
    assert [batch[0] for batch in many.batches] == ["15", "8000", "8001", "8002", "15"]
    await engine.classify(["100000"])
    await engine.classify(["100000"])
    assert [batch[0] for batch in many.batches[-2:]] == ["100000", "100000"]
    engine.close()


async def test_what_is_no_exception_is_a_failure_too(engine: ClassifierEngine) -> None:
    """Rust's panics are none, and ``SystemExit`` is none."""
    dead, alive = await engine.classify(["die", "alive"], ["lengths"])
    assert dead.errors == {"lengths": "SystemExit in classifier lengths"}
    assert alive.predictions["lengths"][0].score == 0.05


async def test_closing_answers_those_who_wait(lengths: Lengths) -> None:
    engine = ClassifierEngine([lengths])
    lengths.gate.clear()
    first = asyncio.create_task(engine.classify(["first"]))
    await asyncio.to_thread(lengths.entered.wait, 10)
    second = asyncio.create_task(engine.classify(["second"]))
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(engine.close))
    await asyncio.sleep(0.05)
    lengths.gate.set()
    await closing
    assert len(await first) == 1
    with pytest.raises(EngineClosed):
        await second
    with pytest.raises(EngineClosed):
        await engine.classify(["third"])


async def test_a_cancelled_caller_harms_nobody(engine: ClassifierEngine, lengths: Lengths) -> None:
    lengths.gate.clear()
    first = asyncio.create_task(engine.classify(["first"]))
    await asyncio.to_thread(lengths.entered.wait, 10)
    gone = asyncio.create_task(engine.classify(["gone"]))
    stays = asyncio.create_task(engine.classify(["stays"]))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    lengths.gate.set()
    await first
    assert (await stays)[0].predictions
    assert all("gone" not in batch for batch in lengths.batches)


def test_the_blocking_form_gives_the_same(engine: ClassifierEngine) -> None:
    found = engine.classify_blocking(["hello", ""])
    assert [f.predictions["lengths"][0].score for f in found] == [0.05, 0.0]


@pytest.mark.parametrize("names", [["nobody"], ["lengths", "nobody"]])
async def test_unknown_classifiers_are_named(engine: ClassifierEngine, names: list[str]) -> None:
    with pytest.raises(ValueError, match="no classifier is named 'nobody'; there are: lengths"):
        await engine.classify(["x"], names)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two classifiers are named 'lengths'"):
        ClassifierEngine([Lengths(), Lengths()])
