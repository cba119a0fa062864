"""The cards of packs as pages show them: the little of Markdown that cards use, and no HTML of theirs.

Headings, paragraphs, lists, tables, fenced code; in a line code, bold, emphasis and links to web pages.
Whatever else there is stands there as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

_HEADING = re.compile(r"(#{1,6}) +(.*)$")
_ITEM = re.compile(r" {0,3}(?:([-*+])|\d{1,9}[.)]) +(.*)$")
_RULE = re.compile(r"\|? *:?-+:? *(\| *:?-+:? *)*\|?$")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_NUMBER = re.compile(r"[-−]?[\d.,]+ ?%?( of [\d.,]+)?$")
_INLINE = re.compile(
    r"`(?P<code>[^`]+)`|\*\*(?P<bold>[^*]+)\*\*|(?<!\w)[*_](?P<em>[^*_\s](?:[^*_]*[^*_\s])?)[*_](?!\w)"
    r"|\[(?P<text>[^\[\]]+)\]\((?P<link>https?://[^()\s]+)\)"
)
_UNDER = 2
"""A card's first heading stands under the section's own, of the second rank."""


def markdown(text: str) -> Markup:
    """Markdown as HTML. What it takes from the text is escaped, and no other tags than its own come out."""
    return Markup("\n").join(_blocks(text.replace("\x00", "").splitlines()))


def _blocks(lines: list[str]) -> Iterator[Markup]:
    at, heading = 0, ""
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            at += 1
        elif found := _HEADING.match(line):
            rank, heading = min(len(found[1]) + _UNDER, 6), found[2].rstrip(" #")
            yield Markup("<h{}>{}</h{}>").format(rank, _inline(heading), rank)
            at += 1
        elif fence := _FENCE.match(line):
            end = _until(lines, at + 1, fence[1])
            yield Markup("<pre>{}</pre>").format("\n".join(lines[at + 1 : end]))
            at = end + 1
        elif _table_at(lines, at):
            end = next((i for i in range(at, len(lines)) if "|" not in lines[i]), len(lines))
            yield _table(lines[at], lines[at + 2 : end], heading)
            at = end
        elif item := _ITEM.match(line):
            end = _rest(lines, at)
            yield _list(lines[at:end], "ul" if item[1] else "ol")
            at = end
        else:
            end = next((i for i in range(at + 1, len(lines)) if _begins(lines, i)), len(lines))
            yield Markup("<p>{}</p>").format(_inline(" ".join(map(str.strip, lines[at:end]))))
            at = end


def _until(lines: list[str], at: int, fence: str) -> int:
    return next(
        (i for i in range(at, len(lines)) if lines[i].strip().startswith(fence)), len(lines)
    )


def _table_at(lines: list[str], at: int) -> bool:
    return "|" in lines[at] and at + 1 < len(lines) and bool(_RULE.match(lines[at + 1].strip()))


def _begins(lines: list[str], at: int) -> bool:
    """Whether something else than the paragraph before stands in a line."""
    line = lines[at]
    return (
        not line.strip()
        or any(pattern.match(line) for pattern in (_HEADING, _FENCE, _ITEM))
        or _table_at(lines, at)
    )


def _rest(lines: list[str], at: int) -> int:
    """The end of a list: an empty line, or what begins something else."""
    for i in range(at + 1, len(lines)):
        if not _ITEM.match(lines[i]) and _begins(lines, i):
            return i
    return len(lines)


def _list(lines: list[str], tag: str) -> Markup:
    items: list[list[str]] = []
    for line in lines:
        if found := _ITEM.match(line):
            items.append([found[2]])
        else:
            items[-1].append(line.strip())
    told = Markup("").join(Markup("<li>{}</li>").format(_inline(" ".join(own))) for own in items)
    return Markup("<{}>{}</{}>").format(tag, told, tag)


def _table(head: str, lines: list[str], name: str) -> Markup:
    """A table that scrolls by itself; columns of numbers stand to the right."""
    names, rows = _cells(head), [_cells(line) for line in lines]
    numbers = [
        bool(rows) and all(_NUMBER.match(row[i]) for row in rows if len(row) > i and row[i])
        for i in range(len(names))
    ]

    def cells(form: Markup, row: list[str]) -> Markup:
        kinds = [Markup(' class="number"') if number else "" for number in numbers]
        padded = [*row, *[""] * len(names)]
        return Markup("").join(
            form.format(kind, _inline(cell)) for kind, cell in zip(kinds, padded, strict=False)
        )

    head_cells = cells(Markup('<th scope="col"{}>{}</th>'), names)
    body = (Markup("<tr>{}</tr>").format(cells(Markup("<td{}>{}</td>"), row)) for row in rows)
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{}"><table><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(name or "Table", head_cells, Markup("").join(body))


def _cells(line: str) -> list[str]:
    parts = line.strip().strip("|").replace("\\|", "\x00").split("|")
    return [part.replace("\x00", "|").strip() for part in parts]


def _inline(text: str) -> Markup:
    found, at = [], 0
    for match in _INLINE.finditer(text):
        found.append(escape(text[at : match.start()]))
        found.append(_marked(match))
        at = match.end()
    return Markup("").join([*found, escape(text[at:])])


def _marked(match: re.Match[str]) -> Markup:
    if match["link"]:
        link = Markup('<a href="{}" rel="noreferrer noopener">{}</a>')
        return link.format(match["link"], match["text"])
    return next(form.format(match[name]) for name, form in _FORMS.items() if match[name])


_FORMS = {
    "code": Markup("<code>{}</code>"),
    "bold": Markup("<strong>{}</strong>"),
    "em": Markup("<em>{}</em>"),
}
