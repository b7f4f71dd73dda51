"""What came of one attempt to tell somebody."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """Of a webhook's target, or of the mail server. `status` None: there was none; `error` says why it failed."""

    ok: bool
    status: int | None
    error: str | None
    took_ms: int
    body: str = ""
    """The beginning of what was said."""
    wait_s: float = 0.0
    """How long we are asked to wait (`Retry-After`)."""
    gone: bool = False
    """The target wants nothing more."""
