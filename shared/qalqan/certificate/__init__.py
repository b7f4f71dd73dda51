"""The certificate that closes a ballot, and its verification from the root keys alone.

CONTRACT "What services state". It shares no code with the service that issues certificates: what was decided
there is decided here once more.
"""

from qalqan.certificate.chain import verify_chain
from qalqan.certificate.record import CLOSING, Certificate, Counted, InboxRange, Outcome, digest
from qalqan.certificate.verification import verify_certificate, verify_event

__all__ = [
    "CLOSING",
    "Certificate",
    "Counted",
    "InboxRange",
    "Outcome",
    "digest",
    "verify_certificate",
    "verify_chain",
    "verify_event",
]
