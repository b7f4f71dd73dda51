"""What must hold after a replay, checked from the public topics alone (CONTRACT, and issue "The scenario").

Nothing here asks a service: the records are read again from the first one on, and believed by root.json
alone.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from qalqan import topics
from qalqan.certificate import verify_chain, verify_event
from qalqan.client import Client, Message, is_closing
from qalqan.envelope import core_digest, from_structured
from qalqan.registry import Root
from qalqan.replay.player import Play, Sent


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, whether it does, and what was found."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the public topics say of a request, record by record, repetitions included.

    `neighbours`: the closing events of all requests in its partition of `decisions`, whose certificates make
    one chain. `doubts`: why a record is not to be believed, by (topic, partition, offset).
    """

    root: Root
    request_id: str
    messages: list[Message]
    neighbours: list[Message] = field(default_factory=list)
    doubts: dict[tuple[str, int, int], str] = field(default_factory=dict)

    def of(self, *names: str) -> list[Message]:
        """The events of these kinds, each once."""
        return _once(message for message in self.messages if message.name in names)

    def closings(self) -> list[Message]:
        """The events that close a ballot of this request, each once."""
        return _once(message for message in self.messages if is_closing(message))


async def collect(client: Client, request_id: str) -> Evidence:
    """Reads what stands on the public topics about a request, and checks every signature in it."""
    records = await client.read([*topics.REQUEST_TOPICS, topics.REJECTIONS], request_id)
    own = [m for m in records if m.event.subject == request_id or m.topic == topics.REJECTIONS.name]
    evidence = Evidence(client.root, request_id, own, [m for m in records if is_closing(m)])
    for message in own:
        if (why := await client.doubt(message)) is not None:
            evidence.doubts[message.topic, message.partition, message.offset] = why
    return evidence


def check(evidence: Evidence, play: Play) -> list[Check]:
    """Every check, in a fixed order. `play.trouble` is the first of them."""
    played = Check("scenario played to its end", play.trouble is None, play.trouble or f"{len(play.sent)} submissions")
    return [played, submissions_settled(evidence, play.sent), *(verify(evidence) for verify in _OF_EVIDENCE)]


def submissions_settled(evidence: Evidence, sent: Sequence[Sent]) -> Check:
    """Every submission stands once on its public topic or in `rejections`, as the scenario expects it."""
    admitted: dict[tuple[str, str], set[int | None]] = defaultdict(set)
    rejected: dict[tuple[object, ...], dict[str, object]] = defaultdict(dict)
    for message in evidence.messages:
        if message.topic == topics.REJECTIONS.name:
            data = message.data
            place = (data.get("source_topic"), data.get("partition"), data.get("offset"))
            rejected[place][message.event.id] = data.get("reason")
        else:
            admitted[message.event.source, message.event.id].add(message.position)
    wrong = []
    for one in sent:
        submission, expected = one.submission, one.planned.expect
        times = len(admitted[submission.source, submission.event_id])
        reasons = list(rejected[submission.topic, submission.partition, submission.offset].values())
        if (times, reasons) != ((1, []) if expected is None else (0, [expected])):
            found = f"admitted {times} times, rejected {', '.join(map(str, reasons)) or 'never'}"
            wrong.append(f"{one.planned.event} of {one.planned.by} ({submission.event_id}): {found}")
    refused = sum(1 for one in sent if one.planned.expect is not None)
    good = f"{len(sent) - refused} admitted once each" + (f", {refused} rejected as expected" if refused else "")
    return _verdict("every submission settled exactly once", wrong, good)


def one_closing_a_ballot(evidence: Evidence) -> Check:
    """Every ballot has been opened once and closed once."""
    opened = Counter(message.data["ballot_id"] for message in evidence.of("BallotOpened"))
    closed = Counter(message.data["ballot_id"] for message in evidence.closings())
    wrong = [
        f"ballot {ballot_id[:20]}: opened {opened[ballot_id]} times, closed {closed[ballot_id]} times"
        for ballot_id in sorted(opened | closed)
        if (opened[ballot_id], closed[ballot_id]) != (1, 1)
    ]
    if not opened:
        wrong.append("no ballot was opened")
    outcomes = ", ".join(message.name for message in evidence.closings())
    return _verdict("one closing event a ballot", wrong, f"{len(opened)}: {outcomes}")


def counted_events_verified(evidence: Evidence) -> Check:
    """Every public event is signed by who may; every vote that a certificate counts is on `votes`."""
    wrong = [f"{topic}/{partition}/{offset}: {why}" for (topic, partition, offset), why in evidence.doubts.items()]
    votes = {core_digest(message.event) for message in evidence.of("VoteCast")}
    counted = 0
    for closing in evidence.closings():
        for vote in closing.data["certificate"]["counted"]:
            if vote["by"] != "vote":
                continue
            counted += 1
            if core_digest(from_structured(vote["event"])) not in votes:
                wrong.append(f"the counted vote of {vote['state']} does not stand on {topics.VOTES.name}")
    return _verdict("every counted event verified", wrong, f"{len(evidence.messages)} events, {counted} counted votes")


def certificates_verified(evidence: Evidence) -> Check:
    """`qalqan verify` finds every closing event valid, its issuer too, from root.json alone."""
    closings = evidence.closings()
    wrong = [
        f"{message.name}: {reason}" for message in closings for reason in verify_event(message.event, evidence.root)
    ]
    return _verdict("every certificate verified", wrong, f"{len(closings)} certificates")


def chain_unbroken(evidence: Evidence) -> Check:
    """The certificates of the partition are one chain, from the first serial on and without a gap."""
    certificates = [message.data["certificate"] for message in _once(evidence.neighbours)]
    wrong = verify_chain(certificates)
    if certificates and certificates[0]["serial"] != 1:
        wrong.append(f"begins with serial {certificates[0]['serial']}")
    return _verdict("chain of certificates unbroken", wrong, f"{len(certificates)} in this partition")


def pledges_within_acceptance(evidence: Evidence) -> Check:
    """No plan and no report uses more of a pledge than was accepted of it at that point.

    `pledges` and `mobilizations` are written by one lane: `step` tells their common order. Within a step the
    highest acceptance counts, since its records are in no common order.
    """
    wrong: list[str] = []
    accepted: Counter[str] = Counter()
    used: Counter[tuple[str, str]] = Counter()
    uses = 0
    for step in _steps(evidence):
        limit = Counter(accepted)
        for message in (m for m in step if m.topic == topics.PLEDGES.name):
            _take_acceptance(accepted, message)
            limit |= accepted
        for message in (m for m in step if m.topic == topics.MOBILIZATIONS.name):
            for pledge_id, quantity in _uses(message, used):
                uses += 1
                if quantity > limit[pledge_id]:
                    text = f"{message.name} {message.position}: {quantity} of {pledge_id}"
                    wrong.append(f"{text}, accepted {limit[pledge_id]}")
    return _verdict(
        "no pledge used beyond what was accepted", wrong, f"{uses} uses of {len(accepted)} accepted pledges"
    )


def positions_complete(evidence: Evidence) -> Check:
    """On each topic the request's events have the positions 1 to n, in this order, each one event's."""
    wrong, totals = [], []
    for topic in topics.REQUEST_TOPICS:
        ids: dict[int, set[str]] = defaultdict(set)
        for message in (m for m in evidence.messages if m.topic == topic.name):
            ids[message.position or 0].add(message.event.id)
        missing = set(range(1, max(ids, default=0) + 1)) - ids.keys()
        if missing:
            wrong.append(f"{topic.name}: {', '.join(map(str, sorted(missing)))} missing")
        if 0 in ids:
            wrong.append(f"{topic.name}: an event without a position")
        if list(ids) != sorted(ids):
            wrong.append(f"{topic.name}: not in the order of the positions")
        wrong += [f"{topic.name}: position {at} has {len(one)} events" for at, one in ids.items() if len(one) > 1]
        totals.append(f"{topic.name} 1-{len(ids)}" if ids else f"{topic.name} none")
    return _verdict("positions complete", wrong, ", ".join(totals))


def one_mobilisation(evidence: Evidence) -> Check:
    """Consensus authorises one mobilisation, once; revisions count up, every plan rests on a decision."""
    reached = [message for message in evidence.closings() if message.name == "ConsensusReached"]
    authorized = evidence.of("MobilizationAuthorized")
    plans = evidence.of("MobilizationAuthorized", "MobilizationRevised")
    wrong = []
    if len(authorized) != min(1, len(reached)):
        wrong.append(f"{len(authorized)} MobilizationAuthorized after {len(reached)} ConsensusReached")
    if len({plan.data["mobilization_id"] for plan in plans}) > 1:
        wrong.append("the plans have different mobilization ids")
    if [plan.data["revision"] for plan in plans] != list(range(1, len(plans) + 1)):
        wrong.append(f"the revisions are {[plan.data['revision'] for plan in plans]}")
    decided = {message.data["decision_digest"] for message in reached}
    wrong += [
        f"revision {plan.data['revision']} rests on a decision that is not published"
        for plan in plans
        if not decided.issuperset(plan.data["decisions"])
    ]
    return _verdict("one mobilisation authorised", wrong, f"{len(authorized)}, {len(plans)} plans in all")


_OF_EVIDENCE: tuple[Callable[[Evidence], Check], ...] = (
    one_closing_a_ballot,
    counted_events_verified,
    certificates_verified,
    chain_unbroken,
    pledges_within_acceptance,
    positions_complete,
    one_mobilisation,
)


def _steps(evidence: Evidence) -> Iterator[list[Message]]:
    """The pledge service's events of the request, one list for each of its transactions, in order."""
    steps: dict[int, list[Message]] = defaultdict(list)
    for message in _once(evidence.messages):
        if message.topic in (topics.PLEDGES.name, topics.MOBILIZATIONS.name):
            steps[int(message.event.extensions.get("step", "0"))].append(message)
    return (steps[number] for number in sorted(steps))


def _take_acceptance(accepted: Counter[str], message: Message) -> None:
    """What an event on `pledges` does to the quantity accepted of its pledge."""
    if message.name == "PledgeAccepted":
        accepted[message.data["pledge_id"]] = message.data["quantity"]
    elif message.name in ("PledgeDeclined", "PledgeWithdrawn", "PledgeRevised"):
        accepted[message.data["pledge_id"]] = 0


def _uses(message: Message, used: Counter[tuple[str, str]]) -> Iterator[tuple[str, int]]:
    """How much of which pledge an event on `mobilizations` uses; `used` adds up the reports of each kind."""
    if "lines" in message.data:
        planned: Counter[str] = Counter()
        for line in message.data["lines"]:
            planned[line["pledge_id"]] += line["quantity"]
        yield from planned.items()
    elif message.name.startswith("Resource"):
        pledge_id = message.data["pledge_id"]
        used[message.name, pledge_id] += message.data["quantity"]
        yield pledge_id, used[message.name, pledge_id]


def _once(messages: Iterable[Message]) -> list[Message]:
    """Without repeated deliveries: the first of each (topic, source, id)."""
    first: dict[tuple[str, str, str], Message] = {}
    for message in messages:
        first.setdefault((message.topic, message.event.source, message.event.id), message)
    return list(first.values())


def _verdict(name: str, wrong: list[str], good: str) -> Check:
    shown = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
    return Check(name, not wrong, shown or good)
