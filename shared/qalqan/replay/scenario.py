"""The scenario format `qalqan-scenario/1` (docs/scenarios.md): a disaster as a timeline of what states did.

`load` reads a YAML file into a `Scenario`; `Scenario.plan` turns it into the submissions of the contract.
Every figure says where it is from: a `source`, or an `assumption` with a sentence why. One that says neither
is an error.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import yaml
from pydantic import ConfigDict, Field, ValidationError, model_validator

from qalqan.events import EVENTS, Mode, Position, Reason, Severity, type_of
from qalqan.events import Package as ContractPackage
from qalqan.fields import (
    Capability,
    Identifier,
    Instant,
    Model,
    Money,
    Place,
    Quantity,
    RequestId,
    State,
    Text,
    Unit,
)

FORMAT = "qalqan-scenario/1"
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class BadScenario(ValueError):
    """A scenario that cannot be played: one line for each trouble, `file:line: path: what`."""


# --- where a figure is from ---------------------------------------------------------------------------------

Key = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
Keys = Key | Annotated[list[Key], Field(min_length=1)]


class Form(Model):
    """Base of what stands in a scenario file: as strict as the contract, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class Sourced(Form):
    """Something with figures in it, each from a source or assumed.

    `source` and `assumption` take one value for every figure not named otherwise, or a value for each figure
    by name. A source is a key of `sources`, or several; an assumption is a key of `assumptions`, or the
    sentence itself.
    """

    FIGURES: ClassVar[tuple[str, ...]] = ()
    """Fields that state something about the world."""
    IMPLIED: ClassVar[tuple[str, ...]] = ()
    """Figures that are there even when left out, because they mean something then ("the whole")."""

    source: Keys | dict[str, Keys] | None = None
    assumption: Text | dict[str, Text] | None = None

    @property
    def figures(self) -> list[str]:
        """The figures stated here, in the order of the fields."""
        return [name for name in self.FIGURES if name in self.IMPLIED or getattr(self, name, None) is not None]

    def assumed(self) -> dict[str, str]:
        """The assumed figures, each with its sentence or the key of one."""
        if isinstance(self.assumption, dict):
            return dict(self.assumption)
        if self.assumption is None:
            return {}
        named = self.source if isinstance(self.source, dict) else {}
        return {figure: self.assumption for figure in self.figures if figure not in named}

    def source_keys(self) -> Iterator[str]:
        """Every key of `sources` used here."""
        groups = self.source.values() if isinstance(self.source, dict) else [self.source or []]
        for keys in groups:
            yield from [keys] if isinstance(keys, str) else keys

    @model_validator(mode="after")
    def _every_figure_is_from_somewhere(self) -> Self:
        sources = self.source if isinstance(self.source, dict) else {}
        assumptions = self.assumption if isinstance(self.assumption, dict) else {}
        for named in (sources, assumptions):
            unknown = [name for name in named if name not in self.figures]
            if unknown:
                raise ValueError(f"{', '.join(unknown)}: no figure given here (there are: {', '.join(self.figures)})")
        both = sorted(sources.keys() & assumptions.keys())
        if both:
            raise ValueError(f"{', '.join(both)}: has a source and an assumption; say which")
        rest_sourced = isinstance(self.source, str | list)
        rest_assumed = isinstance(self.assumption, str)
        if rest_sourced and rest_assumed:
            raise ValueError("a source and an assumption for everything; name the figures that are assumed")
        bare = [name for name in self.figures if name not in sources and name not in assumptions]
        if bare and not rest_sourced and not rest_assumed:
            raise ValueError(f"{', '.join(bare)}: neither a source nor an assumption")
        return self


class Published(Form):
    """A source: its name and date, and its address or addresses as published."""

    name: Text
    address: Text | Annotated[list[Text], Field(min_length=1)]


class PublishedValue(Form):
    """What one source says."""

    value: Text | int
    source: Keys


class Conflict(Form):
    """A figure that sources give differently, side by side; `taken` says which one the scenario plays."""

    figure: Text
    values: Annotated[list[PublishedValue], Field(min_length=2)]
    taken: Text


# --- what a scenario is made of -----------------------------------------------------------------------------

PlaceName = Annotated[str, Field(min_length=1)]
"""A key of `places`."""


class Where(Place):
    """A place of the contract, without its name (that is its key), with the source of its coordinates."""

    model_config = ConfigDict(extra="forbid")

    name: Text | None = None  # type: ignore[assignment]  # the key, unless said otherwise
    source: Keys | None = None


class Package(ContractPackage):
    """The contract's package; a misspelled field is an error."""

    model_config = ConfigDict(extra="forbid")


class Emergency(Sourced):
    """The contract's emergency, its place by name."""

    FIGURES = ("occurred_at", "place", "severity")

    kind: Text
    title: Text
    occurred_at: Instant | None = None
    place: PlaceName
    severity: Severity


class Need(Sourced):
    """The contract's need, its place by name."""

    FIGURES = ("capability", "quantity", "priority", "needed_by", "deliver_to")

    need_id: Identifier
    capability: Capability
    quantity: Quantity
    unit: Unit
    priority: Annotated[int, Field(ge=1, le=9)]
    needed_by: Instant | None = None
    deliver_to: PlaceName
    substitutes: list[Capability] | None = None
    text: Text | None = None


class Terms(Sourced):
    """What an offer may say beside its own figures; also the form of `defaults.pledge`."""

    FIGURES: ClassVar[tuple[str, ...]] = (
        "channel", "mode_of_transport", "transport", "divisible", "min_quantity", "offer_expires_at",
        "cost_borne_by", "estimated_cost", "certified_unit", "package",
    )  # fmt: skip

    channel: Literal["mechanism", "bilateral"] | None = None
    mode_of_transport: Literal["air", "road", "rail", "sea"] | None = None
    transport: Literal["own", "needed", "offered"] | None = None
    divisible: bool | None = None
    min_quantity: Quantity | None = None
    offer_expires_at: Instant | None = None
    cost_borne_by: Text | None = None
    estimated_cost: Money | None = None
    certified_unit: Identifier | None = None
    package: Package | None = None
    conditions: Text | None = None


class Defaults(Form):
    """What every step of a kind says unless it says otherwise."""

    pledge: Terms | None = None


# --- the steps ----------------------------------------------------------------------------------------------


class _Step(Sourced):
    FIGURES: ClassVar[tuple[str, ...]] = ("at",)

    at: Instant
    by: State
    expect: Reason | None = None
    """The reason with which the system must reject this step; nothing: it must be admitted."""


class Raise(_Step):
    """RequestRaised."""

    do: Literal["raise"]
    emergency: Emergency
    needs: Annotated[list[Need], Field(min_length=1)]
    acceptance: Literal["manual", "automatic"] = "manual"
    text: Text | None = None
    language: Text | None = None


class Pledge(_Step, Terms):
    """PledgeOffered. Capability, unit and text are the answered need's where they are left out."""

    FIGURES = ("at", "quantity", "origin", "ready_at", "arrives_at", *Terms.FIGURES)

    do: Literal["pledge"]
    pledge_id: Identifier
    answers: list[Identifier] = Field(default_factory=list)
    capability: Capability | None = None
    quantity: Quantity
    unit: Unit | None = None
    text: Text | None = None
    origin: PlaceName
    ready_at: Instant
    arrives_at: Instant | None = None


class _OfPledges(_Step):
    """A step about one pledge or several; `quantity` left out: the whole of each."""

    FIGURES: ClassVar[tuple[str, ...]] = ("at", "quantity")
    IMPLIED = ("quantity",)

    pledges: Annotated[list[Identifier], Field(min_length=1)]
    quantity: Quantity | None = None

    @model_validator(mode="after")
    def _one_quantity_one_pledge(self) -> Self:
        if self.quantity is not None and len(self.pledges) > 1:
            raise ValueError("`quantity` is said of one pledge only")
        return self


class Accept(_OfPledges):
    """PledgeAccepted, for each pledge."""

    do: Literal["accept"]


class Decline(_Step):
    """PledgeDeclined, for each pledge."""

    do: Literal["decline"]
    pledges: Annotated[list[Identifier], Field(min_length=1)]
    reason: Text


class Withdraw(_Step):
    """PledgeWithdrawn, for each pledge."""

    do: Literal["withdraw"]
    pledges: Annotated[list[Identifier], Field(min_length=1)]
    reason: Text


class Vote(_Step):
    """VoteCast, on the request's open ballot; the player fills in the ballot, its round and the sequence."""

    FIGURES = ("at", "position")

    do: Literal["vote"]
    position: Position
    reason: Text | None = None
    declaration: Text | None = None
    reservation: Text | None = None


class _Report(_OfPledges):
    FIGURES = ("at", "quantity", "place")

    place: PlaceName | None = None


class Commit(_Report):
    """ResourceCommitted, for each pledge."""

    do: Literal["commit"]


class Depart(_Report):
    """ResourceDeparted, for each pledge, from its origin unless `place` says otherwise."""

    do: Literal["depart"]


class Arrive(_Report):
    """ResourceArrived, for each pledge, where its first need is delivered to unless `place` says else."""

    do: Literal["arrive"]


class Release(_Report):
    """ResourceReleased, for each pledge."""

    do: Literal["release"]


class Cancel(_Step):
    """RequestCancelled."""

    do: Literal["cancel"]
    reason: Text


class Close(_Step):
    """RequestClosed."""

    do: Literal["close"]
    reason: Text


Step = Annotated[
    Raise | Pledge | Accept | Decline | Withdraw | Vote | Commit | Depart | Arrive | Release | Cancel | Close,
    Field(discriminator="do"),
]

_REPORTS: Mapping[type[_Report], str] = {
    Commit: "ResourceCommitted",
    Depart: "ResourceDeparted",
    Arrive: "ResourceArrived",
    Release: "ResourceReleased",
}


@dataclass(frozen=True, slots=True)
class Planned:
    """A submission to be: who says what and when in scenario time.

    `data` is the contract's, complete but for a vote's ballot, round and sequence, which only the run can
    tell. `assumed`: the figures in it that are assumed. `expect`: the reason it must be rejected with, or
    None.
    """

    step: int
    at: datetime
    by: str
    event: str
    data: dict[str, Any]
    assumed: tuple[str, ...]
    expect: str | None


@dataclass(frozen=True, slots=True)
class Assumption:
    """A sentence that the scenario assumes, and the figures that rest on it (`AZ-1 ready_at`)."""

    why: str
    figures: tuple[str, ...]


class Scenario(Form):
    """A whole scenario file."""

    format: Literal["qalqan-scenario/1"]
    title: Text
    mode: Mode
    request_id: RequestId
    sources: dict[Key, Published] = Field(default_factory=dict)
    assumptions: dict[Key, Text] = Field(default_factory=dict)
    conflicts: list[Conflict] = Field(default_factory=list)
    not_played: list[Text] = Field(default_factory=list)
    """What was published and is left out, and why."""
    places: dict[PlaceName, Where]
    defaults: Defaults = Defaults()
    steps: Annotated[list[Step], Field(min_length=1)]

    @property
    def raised(self) -> Raise:
        """The step that raises the request: the first."""
        return cast(Raise, self.steps[0])

    @property
    def affected_state(self) -> str:
        """The state that asks for help."""
        return self.raised.by

    @property
    def states(self) -> list[str]:
        """Every state that does something, sorted."""
        return sorted({step.by for step in self.steps})

    def pledges(self) -> dict[str, Pledge]:
        """Every offer by its id, in the order of the steps."""
        return {step.pledge_id: step for step in self.steps if isinstance(step, Pledge)}

    def plan(self, request_id: str) -> list[Planned]:
        """The submissions that play this scenario under that request id, in order."""
        return [planned for index, step in enumerate(self.steps) for planned in self._planned(index, step, request_id)]

    def used_assumptions(self) -> list[Assumption]:
        """Every assumption with the figures that rest on it, the ones of the file first."""
        figures: dict[str, list[str]] = {}
        for where, sourced in self._all_sourced():
            for figure, said in sourced.assumed().items():
                figures.setdefault(self.assumptions.get(said, said), []).append(f"{where} {figure}")
        return [Assumption(why, tuple(where)) for why, where in figures.items()]

    def _all_sourced(self) -> Iterator[tuple[str, Sourced]]:
        if self.defaults.pledge is not None:
            yield "every pledge", self.defaults.pledge
        for step in self.steps:
            if isinstance(step, Raise):
                yield "request", step
                yield "emergency", step.emergency
                yield from ((need.need_id, need) for need in step.needs)
            elif isinstance(step, Pledge):
                yield step.pledge_id, step
            elif isinstance(step, _OfPledges | Decline | Withdraw):
                yield f"{step.by} {step.do} {'+'.join(step.pledges)}", step
            else:
                yield f"{step.by} {step.do}", step

    def _planned(self, index: int, step: Step, request_id: str) -> Iterator[Planned]:
        assumed = tuple(step.assumed())
        for event, data in self._contents(step):
            yield Planned(index, step.at, step.by, event, {"request_id": request_id} | data, assumed, step.expect)

    def _contents(self, step: Step) -> Iterator[tuple[str, dict[str, Any]]]:
        """The events of a step with their data, all but the request id."""
        match step:
            case Raise():
                yield "RequestRaised", self._request(step)
            case Pledge():
                yield "PledgeOffered", self._offer(step)
            case Accept():
                for pledge_id in step.pledges:
                    quantity = step.quantity or self.pledges()[pledge_id].quantity
                    yield (
                        "PledgeAccepted",
                        {"pledge_id": pledge_id, "pledge_revision": 1, "quantity": quantity},
                    )
            case Decline():
                for pledge_id in step.pledges:
                    data = {"pledge_id": pledge_id, "pledge_revision": 1, "reason": step.reason}
                    yield "PledgeDeclined", data
            case Withdraw():
                for pledge_id in step.pledges:
                    yield "PledgeWithdrawn", {"pledge_id": pledge_id, "reason": step.reason}
            case Vote():
                vote = {"state": step.by, "position": step.position}
                texts = step.model_dump(include={"reason", "declaration", "reservation"}, exclude_none=True)
                yield "VoteCast", vote | texts
            case Cancel():
                yield "RequestCancelled", {"reason": step.reason}
            case Close():
                yield "RequestClosed", {"reason": step.reason}
            case Commit() | Depart() | Arrive() | Release():
                for pledge_id in step.pledges:
                    yield _REPORTS[type(step)], self._report(step, pledge_id)

    def _request(self, step: Raise) -> dict[str, Any]:
        said = _content(step, "at", "by", "do", "expect")
        said["emergency"] = _content(step.emergency) | {"place": self._place(step.emergency.place)}
        said["needs"] = [_content(need) | {"deliver_to": self._place(need.deliver_to)} for need in step.needs]
        return {"affected_state": step.by, "mode": self.mode} | said

    def _offer(self, step: Pledge) -> dict[str, Any]:
        needs = [need for need in self.raised.needs if need.need_id in step.answers[:1]]
        of_need = needs[0].model_dump(include={"capability", "unit", "text"}, exclude_none=True) if needs else {}
        defaults = _content(self.defaults.pledge) if self.defaults.pledge is not None else {}
        said = _content(step, "at", "by", "do", "expect")
        return {"pledging_state": step.by} | of_need | defaults | said | {"origin": self._place(step.origin)}

    def _report(self, step: _Report, pledge_id: str) -> dict[str, Any]:
        pledge = self.pledges()[pledge_id]
        needs = {need.need_id: need for need in self.raised.needs}
        place = step.place
        if place is None and isinstance(step, Arrive) and pledge.answers:
            place = needs[pledge.answers[0]].deliver_to
        elif place is None and not isinstance(step, Arrive | Release):
            place = pledge.origin
        return {
            "pledge_id": pledge_id,
            "line_id": None,
            "quantity": step.quantity or pledge.quantity,
            "at": step.model_dump(mode="json")["at"],
            "place": None if place is None else self._place(place),
        }

    def _place(self, name: str) -> dict[str, Any]:
        return {"name": name} | _content(self.places[name])


def _content(form: Model, *without: str) -> dict[str, Any]:
    """What a form says of the contract, as JSON data."""
    return form.model_dump(mode="json", exclude_none=True, exclude={"source", "assumption", *without})


# --- what holds between the parts ---------------------------------------------------------------------------

_Trouble = tuple[tuple[str | int, ...], str]
_BY_AFFECTED = (Raise, Accept, Decline, Cancel, Close)
_BY_EITHER = (Arrive, Release)


def _troubles(scenario: Scenario) -> Iterator[_Trouble]:
    """What is wrong between the parts of a scenario whose parts are each well formed."""
    if not isinstance(scenario.steps[0], Raise):
        yield ("steps", 0, "do"), "the first step must raise the request"
        return
    if not scenario.request_id.startswith(scenario.affected_state + "-"):
        yield ("request_id",), f"must begin with the affected state, {scenario.affected_state}"
    yield from _unknown_keys(scenario)
    for index, (before, step) in enumerate(pairwise(scenario.steps), start=1):
        if isinstance(step, Raise):
            yield ("steps", index, "do"), "a scenario raises one request, in its first step"
        if step.at < before.at:
            yield ("steps", index, "at"), "before the step above it; steps stand in the order of time"
    offered: dict[str, Pledge] = {}
    for index, step in enumerate(scenario.steps):
        yield from ((("steps", index, *path), what) for path, what in _troubles_of_step(scenario, step, offered))


def _troubles_of_step(scenario: Scenario, step: Step, offered: dict[str, Pledge]) -> Iterator[_Trouble]:
    names = [step.place] if isinstance(step, _Report) and step.place else []
    names += [step.origin] if isinstance(step, Pledge) else []
    names += [step.emergency.place, *(n.deliver_to for n in step.needs)] if isinstance(step, Raise) else []
    for name in names:
        if name not in scenario.places:
            yield (), f"{name!r} is not in `places`"
    if isinstance(step, Pledge):
        needs = {need.need_id for need in scenario.raised.needs}
        unknown = [need_id for need_id in step.answers if need_id not in needs]
        if unknown:
            yield ("answers",), f"the request has no need {', '.join(unknown)}"
        if step.pledge_id in offered:
            yield ("pledge_id",), f"{step.pledge_id} was offered before"
        if not step.pledge_id.startswith(step.by + "-"):
            yield ("pledge_id",), f"must begin with the pledging state, {step.by}-"
        offered[step.pledge_id] = step
    if isinstance(step, _OfPledges | Decline | Withdraw):
        for number, pledge_id in enumerate(step.pledges):
            if pledge_id not in offered:
                yield ("pledges", number), f"{pledge_id} was not offered before"
            elif step.expect is None and not _may(scenario, step, offered[pledge_id].by):
                yield ("by",), f"{step.by} may not {step.do} {pledge_id} (give `expect` if this is the point)"
    elif isinstance(step, _BY_AFFECTED) and step.by != scenario.affected_state and step.expect is None:
        yield ("by",), f"only {scenario.affected_state} may {step.do}"


def _may(scenario: Scenario, step: _Step, owner: str) -> bool:
    """CONTRACT "Submissions", second column."""
    affected = step.by == scenario.affected_state
    if isinstance(step, _BY_AFFECTED):
        return affected
    return step.by == owner or (affected and isinstance(step, _BY_EITHER))


def _unknown_keys(scenario: Scenario) -> Iterator[_Trouble]:
    for where, sourced in scenario._all_sourced():
        for key in sourced.source_keys():
            if key not in scenario.sources:
                yield ("sources",), f"{where} names the source {key!r}, which is not here"
        for figure, said in sourced.assumed().items():
            if " " not in said and said not in scenario.assumptions:
                yield ("assumptions",), f"{where} {figure} names the assumption {said!r}, which is not here"
    other = [(f"conflict {c.figure!r}", value.source) for c in scenario.conflicts for value in c.values]
    other += [(f"place {name}", place.source) for name, place in scenario.places.items() if place.source]
    for where, keys in other:
        for key in [keys] if isinstance(keys, str) else keys:
            if key not in scenario.sources:
                yield ("sources",), f"{where} names the source {key!r}, which is not here"


def _troubles_of_contract(scenario: Scenario) -> Iterator[_Trouble]:
    """Where what would be submitted is not what the contract takes."""
    for planned in scenario.plan(scenario.request_id):
        data = planned.data
        if planned.event == "VoteCast":
            data = {**data, "ballot_id": "sha256:" + "0" * 64, "round": 1, "sequence": 1}
        try:
            EVENTS[type_of(planned.event)].model.model_validate(data)
        except ValidationError as error:
            for trouble in error.errors():
                yield ("steps", planned.step, *trouble["loc"]), f"{planned.event}: {_what(trouble)}"


# --- reading ------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML with JSON's scalars: an instant stays a text, a boolean is true or false. No aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_mark()
            raise yaml.MarkedYAMLError(problem="aliases are not used here", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if not tag.endswith((":timestamp", ":bool", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


def load(path: Path | str) -> Scenario:
    """Reads a scenario. BadScenario: the file is unreadable, or all that is wrong with file, line, path and what."""
    try:
        text = Path(path).read_text("utf-8")
    except OSError as error:
        raise BadScenario(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadScenario(f"{path}: not UTF-8: {error}") from error
    return parse(text, str(path))


def parse(text: str, name: str = "scenario") -> Scenario:
    """The scenario in a text; `name` stands for it in errors, see `load`."""
    node, document = read_yaml(text, name)
    try:
        scenario = Scenario.model_validate(document)
    except ValidationError as error:
        raise _bad(name, node, [(_path(trouble["loc"]), _what(trouble)) for trouble in error.errors()]) from error
    troubles = list(_troubles(scenario)) or list(_troubles_of_contract(scenario))
    if troubles:
        raise _bad(name, node, troubles)
    return scenario


def read_yaml(text: str, name: str) -> tuple[yaml.Node | None, Any]:
    """A text's YAML, as nodes with their lines and as JSON data. BadScenario: it is no such YAML."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return node, None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadScenario(f"{name}:{line}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise BadScenario(f"{name}:1: {error}") from error


def _path(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """A path of pydantic without the kind of step that it puts behind a step's number."""
    return location[:2] + location[3:] if location[:1] == ("steps",) else location


def _what(trouble: Mapping[str, Any]) -> str:
    return str(trouble["msg"]).removeprefix("Value error, ")


def _bad(name: str, node: yaml.Node | None, troubles: list[_Trouble]) -> BadScenario:
    return BadScenario("\n".join(f"{name}:{_where(node, path)}: {what}" for path, what in troubles))


def _where(node: yaml.Node | None, path: tuple[str | int, ...]) -> str:
    """`line: steps[3].quantity`: walks the document; what pydantic adds for a union leads nowhere in it."""
    spelled, line = "", 1
    for number, part in enumerate(path):
        child: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            child = next((value for key, value in node.value if key.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            child = node.value[part]
        missing = number == len(path) - 1 and isinstance(node, yaml.MappingNode)
        if child is None and not missing:
            continue
        spelled += f"[{part}]" if isinstance(part, int) else f".{part}"
        if child is not None:
            node, line = child, child.start_mark.line + 1
    return f"{line}: {spelled.lstrip('.') or 'the file'}"


def schema() -> dict[str, Any]:
    """The format as a JSON Schema (2020-12)."""
    return {"$schema": SCHEMA_DIALECT, "title": FORMAT} | Scenario.model_json_schema()


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2, ensure_ascii=False))
