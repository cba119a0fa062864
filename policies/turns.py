"""Which messages of a conversation are new: what `answer`, `route` and `turns: last` look at."""

from __future__ import annotations

from collections.abc import Sequence


def newest_turn(roles: Sequence[str]) -> set[int]:
    """Indexes of the newest turn: the last messages of one role, user, tool or function.

    Instructions of the operator between or after them do not end a turn. After an assistant
    message (a prefilled answer) nothing is new.
    """
    turn: set[int] = set()
    speaker = ""
    for index in range(len(roles) - 1, -1, -1):
        role = roles[index]
        if role in ("system", "developer"):
            continue
        if role == "assistant" or (speaker and role != speaker):
            break
        speaker = role
        turn.add(index)
    return turn
