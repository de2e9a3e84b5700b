"""Errors that causalrec raises.

Every message says what was found, what is expected, and the remedy. All are
:class:`CausalRecError`, itself a ``ValueError``, so a caller may catch either.
The command line turns them into one red line and exit code 2.
"""

from __future__ import annotations


class CausalRecError(ValueError):
    """Base of all errors raised on purpose by causalrec."""


class ColumnError(CausalRecError):
    """A column is missing, duplicated, or of a type that cannot be used."""


class EmptyTableError(CausalRecError):
    """A table or window holds no rows where some are needed."""


class TreatmentError(CausalRecError):
    """The treatment is neither 0/1 nor named arms, or an arm is missing."""


class OutcomeError(CausalRecError):
    """The outcome has missing or infinite values, or the wrong length."""


class OverlapError(CausalRecError):
    """Treated and control units cannot be compared: no common support."""


class TimeError(CausalRecError):
    """A time is not UTC, a window is not positive, or zones are mixed."""


class EngineError(CausalRecError):
    """An engine cannot be started or cannot read a table (e.g. no Java)."""


class DatasetError(CausalRecError):
    """A data file is missing, or its columns or hash are not the known ones."""


class ConfigError(CausalRecError):
    """A configuration has an unknown key or a value that is not allowed."""


class StoreError(CausalRecError):
    """A directory or store cannot be written or read."""


class MissingExtraError(CausalRecError, ImportError):
    """An optional package is not installed; the message names the extra."""


class BalanceWarning(UserWarning):
    """Something measured before an experiment differs between its arms."""
