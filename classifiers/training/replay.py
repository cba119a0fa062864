"""What a pack remembers of its training rows, so that it can be corrected later without them.

One vector a row: its averaged window, or, with ``max`` pooling, the window that decides. No text is
kept. Features lie in 8 bits with a scale for each row (their error, 0.4 % of the row's largest, is
far under what the int8 encoder makes), n-grams as sparse rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, vstack

from classifiers import lexical
from classifiers.neighbours import CORRECTED
from classifiers.packs import REPLAY, PackError
from classifiers.training.data import Row
from classifiers.training.fit import Linear
from classifiers.training.windows import Windows

MAX_ROWS = 4_000
"""Rows that a pack remembers by default: 1.2 kB each and about 1 kB of n-grams."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Remembered rows.

    Attributes:
        features: ``[rows, features]`` of the encoder, float32.
        grams: ``[rows, BUCKETS]`` sparse.
        truth: ``[rows, labels]`` 1 holds, 0 does not, -1 unknown.
        benign: ``[rows]`` ordinary texts, which make the false-positive rate.
        index: ``[rows]`` which row of the calibration rows it is, -1 if it is none, and
            :data:`CORRECTED` if it came as a correction.
    """

    features: npt.NDArray[np.float32]
    grams: csr_matrix
    truth: npt.NDArray[np.int8]
    benign: npt.NDArray[np.bool_]
    index: npt.NDArray[np.int64]


def replay_of(
    windows: Windows, truth: npt.NDArray[np.int8], rows: Sequence[Row], head: Linear
) -> dict[str, npt.NDArray[Any]]:
    """The deciding window of every row, as tensors: ``features scale grams_at grams_bucket grams_value
    truth benign``.

    Args:
        windows: of the rows.
        truth: ``[rows, labels]``.
        head: decides which window of a row decides.
    """
    logits = windows.features @ head.encoder + windows.grams @ head.lexical
    # The labels that hold are asked first; a row without any shows the window nearest to a mistake.
    wanted = np.where(truth == 1, 0.0, -50.0)
    wanted[(truth == 1).sum(axis=1) == 0] = 0.0
    worth = (logits + wanted[windows.owner]).max(axis=1)
    order = np.lexsort((-worth, windows.owner))
    owners, first = np.unique(windows.owner[order], return_index=True)
    deciding = order[first]
    grams = windows.grams[deciding]
    return {
        **_small(windows.features[deciding]),
        "grams_at": grams.indptr.astype(np.int32),
        "grams_bucket": grams.indices.astype(np.int32),
        "grams_value": grams.data.astype(np.float16),
        "truth": truth[owners],
        "benign": np.asarray([row.benign or not row.labels for row in rows], dtype=np.uint8),
    }


def thinned(
    tensors: Mapping[str, npt.NDArray[Any]],
    calibration: npt.NDArray[np.int64],
    rows: int = MAX_ROWS,
    seed: int = 0,
) -> dict[str, npt.NDArray[Any]]:
    """At most so many of the rows, rare labels first, with their place among the calibration
    rows.

    Args:
        tensors: from :func:`replay_of`.
        calibration: ``[kept]`` the rows whose held-out logits the pack holds.
    """
    if not tensors:
        return {}
    truth = tensors["truth"]
    total = len(truth)
    place = np.full(total, -1, dtype=np.int64)
    place[calibration] = np.arange(len(calibration))
    order = np.random.default_rng(seed).permutation(total)
    # Taken in turn: a row of each label, then of none, so that no label is forgotten.
    turn = np.zeros(total)
    columns = [truth[:, c] == 1 for c in range(truth.shape[1])] + [(truth != 1).all(axis=1)]
    ranks = np.full(total, np.inf)
    for held in columns:
        own = order[held[order]]
        ranks[own] = np.minimum(ranks[own], np.arange(len(own)))
    turn[order] = np.arange(total) / total
    kept = np.sort(np.argsort(ranks + turn / 2, kind="stable")[:rows])
    grams = _grams(tensors)[kept]
    return {
        "features": tensors["features"][kept],
        "scale": tensors["scale"][kept],
        "grams_at": grams.indptr.astype(np.int32),
        "grams_bucket": grams.indices.astype(np.int32),
        "grams_value": grams.data.astype(np.float16),
        "truth": truth[kept],
        "benign": tensors["benign"][kept],
        "index": place[kept],
    }


def check_remembered(
    folder: Path, tensors: Mapping[str, npt.NDArray[Any]], features: int, labels: int, rows: int
) -> None:
    """Refuse a :data:`REPLAY` file whose numbers do not fit together.

    Args:
        folder: the pack, for the error.
        features, labels: of the pack's head.
        rows: of its calibration.

    Raises:
        PackError: a tensor is missing, of another shape, or points outside of what there is.
    """
    count = len(tensors.get("features", ()))
    shapes = {
        "features": (count, features),
        "scale": (count,),
        "grams_at": (count + 1,),
        "grams_bucket": (len(tensors.get("grams_value", ())),),
        "truth": (count, labels),
        "benign": (count,),
        "index": (count,),
    }
    for name, shape in shapes.items():
        if name not in tensors or tensors[name].shape != shape:
            found = "missing" if name not in tensors else f"of shape {tensors[name].shape}"
            raise PackError(
                f"{folder}: {REPLAY}: {name!r} is {found}, {shape} is needed; rebuild it"
            )
    at, bucket = tensors["grams_at"], tensors["grams_bucket"]
    sound = (
        at[0] == 0
        and at[-1] == len(bucket)
        and (np.diff(at) >= 0).all()
        and (not len(bucket) or (bucket.min() >= 0 and bucket.max() < lexical.BUCKETS))
        and (
            not count
            or (tensors["index"].min() >= min(-1, CORRECTED) and tensors["index"].max() < rows)
        )
        and np.isfinite(tensors["scale"]).all()
        and np.isfinite(tensors["grams_value"]).all()
        and np.isin(tensors["truth"], (-1, 0, 1)).all()
    )
    if not sound:
        raise PackError(f"{folder}: {REPLAY} points outside of what there is; rebuild the pack")


def remembered(tensors: Mapping[str, npt.NDArray[Any]]) -> Replay:
    """The rows of a pack's :data:`REPLAY` file, once they have been checked."""
    return Replay(
        tensors["features"].astype(np.float32) * tensors["scale"].astype(np.float32)[:, None],
        _grams(tensors),
        tensors["truth"],
        tensors["benign"].astype(bool),
        tensors["index"],
    )


def joined(
    tensors: Mapping[str, npt.NDArray[Any]],
    features: npt.NDArray[np.float32],
    grams: csr_matrix,
    truth: npt.NDArray[np.int8],
) -> dict[str, npt.NDArray[Any]]:
    """The remembered rows and some corrections, which are no calibration rows."""
    more = _small(features)
    both = vstack([_grams(tensors), grams], format="csr")
    return {
        "features": np.vstack([tensors["features"], more["features"]]),
        "scale": np.concatenate([tensors["scale"], more["scale"]]),
        "grams_at": both.indptr.astype(np.int32),
        "grams_bucket": both.indices.astype(np.int32),
        "grams_value": both.data.astype(np.float16),
        "truth": np.vstack([tensors["truth"], truth]),
        "benign": np.concatenate([tensors["benign"], (truth == 0).all(axis=1).astype(np.uint8)]),
        "index": np.concatenate([tensors["index"], np.full(len(truth), CORRECTED, dtype=np.int64)]),
    }


def _grams(tensors: Mapping[str, npt.NDArray[Any]]) -> csr_matrix:
    values = tensors["grams_value"].astype(np.float32)
    return csr_matrix(
        (values, tensors["grams_bucket"], tensors["grams_at"]),
        shape=(len(tensors["features"]), lexical.BUCKETS),
    )


def _small(features: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
    scale = np.maximum(np.abs(features).max(axis=1), 1e-12) / 127
    return {
        "features": np.rint(features / scale[:, None]).astype(np.int8),
        "scale": scale.astype(np.float32),
    }
