"""Decisions out of the ledger: JSON lines as they were logged, or Parquet with the columns."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import IO, Any

from sqlalchemy import select

from proxy.ledgers.database import Place
from proxy.ledgers.read import Reader
from proxy.ledgers.tables import decisions
from proxy.yaml_source import ConfigError

AT_ONCE = 2000
"""Rows in memory."""


async def jsonl(place: Place, since: float, out: IO[bytes]) -> int:
    """Write records since a time (unix seconds), oldest first, one JSON object a line.

    A request that has not ended, or never will, has its ``state``. Returns how many there are.

    Raises:
        Away: the ledger cannot be read.
        OSError: the file cannot be written.
    """
    count = 0
    async for rows in _rows(place, since):
        for row in rows:
            line: str = row["record"]
            if row["state"] != "done":
                line = f'{{"state":"{row["state"]}",{line[1:]}'
            out.write(line.encode() + b"\n")
        count += len(rows)
    return count


async def parquet(place: Place, since: float, file: Path) -> int:
    """Write rows since a time as Parquet; the whole record is a column. Returns how many there are.

    Raises:
        ConfigError: pyarrow is not installed.
        Away, OSError: see :func:`jsonl`.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(
            "Parquet needs pyarrow, which is not installed; pip install pyarrow, or --format jsonl"
        )
    import pyarrow as pa
    import pyarrow.parquet

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    schema = pa.schema([(c.name, kinds[c.type.python_type]) for c in decisions.c])
    count = 0
    with pa.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        async for rows in _rows(place, since):
            writer.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema))
            count += len(rows)
    return count


async def _rows(place: Place, since: float) -> AsyncIterator[Sequence[Any]]:
    reader = Reader(place)
    query = (
        select(decisions)
        .where(decisions.c.time >= since)
        .order_by(decisions.c.time, decisions.c.decision_id)
    )
    try:
        async with reader.connection() as connection:
            found = await connection.stream(query)
            async for rows in found.mappings().partitions(AT_ONCE):
                yield rows
    finally:
        await reader.close()
