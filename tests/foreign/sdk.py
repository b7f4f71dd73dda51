"""A national system on the official CloudEvents SDK: its event, in both modes, for Kafka and for HTTP.

The SDK builds and spells the event. Signing stays ours to do: it has no verifiability extension. Data must be bytes:
of a dict the SDK would write `data` into a structured event, which another JSON writer could spell otherwise.
"""

from datetime import UTC, datetime

from cloudevents.core.v1.event import CloudEvent

from tests.foreign.contract import Party


def signed(party: Party, name: str, request_id: str, data: bytes) -> CloudEvent:
    """The signed event, with the SDK's own kind of time (microseconds: only whole seconds are signed)."""
    now = datetime.now(UTC)
    attributes = party.attributes(name, request_id)
    core = {**attributes, "time": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
    # `datacontenttype` must be said: the SDK leaves it out, and the contract wants it.
    extensions = {"partitionkey": request_id, "dssematerial": party.material(core, data)}
    return CloudEvent({**attributes, "time": now, **extensions}, data)
