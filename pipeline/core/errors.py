"""Errors that reach the user: what was seen, what was expected, what to do."""

from __future__ import annotations


class CarbonCubeError(Exception):
    """An error with a message for the user and the exit code of the command line.

    Parameters
    ----------
    seen : what was found.
    expected : what should have been there.
    remedy : what the user can do about it.
    """

    exit_code = 1

    def __init__(self, seen: str, expected: str = "", remedy: str = "") -> None:
        self.seen, self.expected, self.remedy = seen, expected, remedy
        parts = [seen]
        if expected:
            parts.append(f"expected {expected}")
        if remedy:
            parts.append(remedy)
        super().__init__("; ".join(parts))

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        # Exceptions cross process borders on a cluster; the default reduction would pass one string.
        return type(self), (self.seen, self.expected, self.remedy)


class UsageError(CarbonCubeError):
    """The command line or the settings ask for something that does not exist."""

    exit_code = 2


class InputError(CarbonCubeError):
    """An input cube or file is not what the contract says."""

    exit_code = 3


class StoreError(CarbonCubeError):
    """The store cannot be read or written, or is not ours."""

    exit_code = 4


class PartialError(CarbonCubeError):
    """Some units of work failed; what succeeded is kept."""

    exit_code = 5
