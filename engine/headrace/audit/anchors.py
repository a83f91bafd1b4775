"""What was said of the journal before: digests of earlier audits and certificates."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headrace.errors import DataError, reason_of


def read_anchors(paths: Iterable[Path], ledger_id: str) -> dict[int, str]:
    """Digests by journal row, hexadecimal, from what `headrace ledger audit --json` or `certificate --json` printed.

    Of a certificate of several ledgers the source of this one counts. Raises DataError for a file that says nothing.
    """
    return {sequence: digest for path in paths for sequence, digest in [_read(path, ledger_id)]}


def _read(path: Path, ledger_id: str) -> tuple[int, str]:
    hint = "a file that headrace ledger audit --json or certificate --json printed"
    try:
        said: dict[str, Any] = json.loads(path.read_text("utf-8"))
        sources = said.get("sources", [said])
        own = sources[0] if len(sources) == 1 else next(one for one in sources if one["ledger_id"] == ledger_id)
        sequence, digest = int(own["sequence"]), str(own["digest"])
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason_of(error)}", hint=hint) from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{path} is no audit and no certificate", hint=hint) from error
    except StopIteration:
        raise DataError(f"{path} says nothing of ledger {ledger_id}", hint=hint) from None
    if not digest:
        raise DataError(f"{path} names no digest", hint="it was made of a journal without a chain")
    return sequence, digest
