"""The error of a policy that cannot be used."""

from __future__ import annotations


class PolicyError(ValueError):
    """A policy cannot be used. Each line of the message reads ``file:line: fault; fix``."""

    @property
    def problems(self) -> tuple[str, ...]:
        """The mistakes one by one."""
        return tuple(str(self).splitlines())
