"""The verdicts on kernels in the user's cache: $XDG_CACHE_HOME/alttrain/kernels, by default ~/.cache/alttrain/kernels.

A file for each identity holds that identity and the verdicts. Kept is what passed, and what gave wrong values. What
raised, or could not be compared as PyTorch failed, is tried again at the next start: the cause, a missing compiler, a
full disk or memory, may be gone by then. A file that is damaged, or that another identity wrote, counts as none.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from alttrain.engine.proof.identity import Identity
from alttrain.engine.proof.trial import Verdict

KEPT = ("passed", "wrong")


def cache_folder() -> Path:
    """Return the folder of the verdicts; it need not exist. A relative XDG_CACHE_HOME is ignored, as its rules say."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(named) if Path(named).is_absolute() else Path(os.path.expanduser("~/.cache"))
    return base / "alttrain" / "kernels"


def file_of(identity: Identity) -> Path:
    """Return the file of the verdicts under `identity`."""
    text = json.dumps(identity, sort_keys=True)
    return cache_folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"


def kept_verdicts(identity: Identity) -> dict[str, Verdict]:
    """Return the verdicts that are kept under `identity`; none where there is no file, or it cannot be understood."""
    try:
        held = json.loads(file_of(identity).read_text(encoding="utf-8"))
        if held["identity"] != identity:
            return {}
        verdicts = {str(name): Verdict(**verdict) for name, verdict in held["verdicts"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    return {name: verdict for name, verdict in verdicts.items() if _is_kept(verdict)}


def keep_verdicts(identity: Identity, verdicts: Mapping[str, Verdict]) -> str:
    """Keep what is to be kept; return a sentence where it cannot be, else nothing. A reader never sees half a file."""
    file = file_of(identity)
    values = {name: vars(verdict) for name, verdict in verdicts.items() if _is_kept(verdict)}
    text = json.dumps({"identity": identity, "verdicts": values}, indent=1) + "\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: machines that share a home folder may write at the same time.
        handle, partial = tempfile.mkstemp(dir=file.parent, suffix=".partial")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            os.replace(partial, file)
        except OSError:
            os.unlink(partial)
            raise
    except OSError as error:
        return (
            f"The verdicts on the kernels are not kept, so that the next start tries them again: the cache cannot be "
            f"written ({error.strerror}). Set XDG_CACHE_HOME to a folder that can."
        )
    return ""


def _is_kept(verdict: Verdict) -> bool:
    return verdict.outcome in KEPT and not verdict.torch_failed
