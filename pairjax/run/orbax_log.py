"""Filters that hide Orbax's log of errors that it also raises."""

import logging


def is_not_orbax(record: logging.LogRecord) -> bool:
    """Filters out Orbax's log: it logs the traceback of each error that it also raises; users should see one line."""
    return "orbax" not in record.pathname


def is_not_orbaxs_task(record: logging.LogRecord) -> bool:
    """Filters out asyncio's log of Orbax's other writes that fail with the one raised: hundreds, on a full disk."""
    return not ("never retrieved" in record.getMessage() and "orbax" in record.getMessage())
