"""YAML text to plain data, with the line of every value.

Only the safe loader's scalars are built: no tags, no merge keys, no key written twice. Aliases work
but cannot grow a small file into a huge one.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

MOST_NODES = 50_000
DEEPEST = 40
_HALF = re.compile("[\ud800-\udfff]")
_PLAIN = "tag:yaml.org,2002:"
Path = tuple[str | int, ...]


class SourceError(ValueError):
    """The text is no YAML of the kind that is read here; ``line`` counts from 1."""

    def __init__(self, message: str, line: int = 1) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file.

    Attributes:
        source: name of the file, as messages call it.
        data: mappings, lists, strings, numbers, booleans and None.
        lines: line, from 1, of every value, by the keys that lead to it.
    """

    source: str
    data: Any
    lines: Mapping[Path, int]

    def path(self, location: Sequence[str | int]) -> Path:
        """The part of a pydantic error location that exists in the file.

        Locations also hold names of union members and of fields behind short forms; whatever is
        no child of the value reached so far is such a name and is skipped.
        """
        reached: Path = ()
        for step in location:
            if (*reached, step) in self.lines:
                reached = (*reached, step)
        return reached

    def line(self, path: Sequence[str | int]) -> int:
        """Line of a value, or of the nearest value around it."""
        where = tuple(path)
        while where not in self.lines and where:
            where = where[:-1]
        return self.lines.get(where, 1)

    def at(self, path: Sequence[str | int]) -> str:
        """``file:line`` of a value."""
        return f"{self.source}:{self.line(path)}"


def read_text(path: pathlib.Path) -> str:
    """The text of a file that someone wrote.

    Raises:
        SourceError: it cannot be read or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SourceError(f"the file cannot be read ({reason}); check its path") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SourceError("the text is not UTF-8; save it as UTF-8", line) from None


def parse(text: str, source: str, *, what: str = "policy", needs: str = "rules") -> Document:
    """Read one YAML document.

    Args:
        text: the file.
        source: its name.
        what: what the file is, as messages call it.
        needs: a key that it has beside ``name``, for the message about an empty file.

    Raises:
        SourceError: with the fault, the fix and the line.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise SourceError(
            f"this is not valid YAML ({problem}); check indentation, colons and quotes",
            mark.line + 1 if mark else 1,
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SourceError("a control character stands here; remove it", line) from None
    except RecursionError:
        raise SourceError(f"nested too deeply; use at most {DEEPEST} levels") from None
    if root is None:
        raise SourceError(f"the file is empty; a {what} needs at least 'name' and {needs!r}")
    builder = _Builder(what)
    data = builder.build(root, ())
    return Document(source, data, builder.lines)


class _Builder:
    def __init__(self, what: str) -> None:
        self.what = what
        self.lines: dict[Path, int] = {}
        self._scalars = yaml.SafeLoader("")

    def build(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if len(self.lines) > MOST_NODES:
            raise SourceError(f"more than {MOST_NODES} values; split the {self.what}", line)
        if len(path) > DEEPEST:
            raise SourceError(f"nested too deeply; use at most {DEEPEST} levels", line)
        if isinstance(node, yaml.MappingNode):
            self._plain(node, "map", line)
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._plain(node, "seq", line)
            return [self.build(child, (*path, i)) for i, child in enumerate(node.value)]
        return self._scalar(node, line)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _PLAIN + "merge":
                raise SourceError("'<<' merges are not read; write the keys out", line)
            key = self._scalar(key_node, line) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise SourceError(f"the key {key!r} is no text; put it in quotes", line)
            if key in data:
                raise SourceError(f"the key {key!r} is written twice; remove one", line)
            self.lines[(*path, key)] = line
            data[key] = self.build(value_node, (*path, key))
        return data

    def _scalar(self, node: yaml.Node, line: int) -> Any:
        kind = node.tag.removeprefix(_PLAIN)
        if kind == "timestamp":  # `version: 2025-06-01` is meant as it is written
            return node.value
        if kind not in ("str", "int", "float", "bool", "null"):
            self._plain(node, "str", line)
        if _HALF.search(node.value):
            raise SourceError(
                "half a pair of surrogates stands here, which is no character; remove it", line
            )
        try:
            return self._scalars.construct_object(node)
        except (ValueError, yaml.YAMLError):
            raise SourceError(f"{node.value!r} is no {kind}; put it in quotes", line) from None

    @staticmethod
    def _plain(node: yaml.Node, kind: str, line: int) -> None:
        if node.tag != _PLAIN + kind:
            raise SourceError(f"the tag {node.tag!r} is not allowed; remove it", line)
