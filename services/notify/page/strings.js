// Every word of the page. Another language is another table beside `en`.

const en = {
  product: "Qalqan",
  "product.what": "Civil protection of the Organization of Turkic States",
  skip: "Skip to the content",
  "nav.label": "Views",
  "nav.now": "Now",
  "nav.streams": "Streams",
  none: "–",
  unknown: "unknown",
  loading: "Loading …",
  left: "{span} left",
  late: "{span} late",
  "show.all": "Show all",
  "show.less": "Show less",
  back: "All requests",

  "signin.title": "Sign in",
  "signin.what": "Reading takes a token. Whoever runs this system makes one for you.",
  "signin.token": "Token",
  "signin.go": "Sign in",
  "signin.refused": "This token is not accepted. It may have been revoked.",
  "signin.out": "Sign out",
  "role.operator": "Operator",
  "role.secretariat": "Secretariat",
  "role.observer": "Observer",
  "role.integrator": "Integrator",

  "connection.live": "Live",
  "connection.connecting": "Connecting",
  "connection.lost": "Connection lost, resuming",
  "connection.refused": "Stopped: {why}",
  "problem.unanswered": "The service does not answer.",
  "problem.here": "This cannot be shown: {why}",

  "mode.actual": "Actual",
  "mode.exercise": "Exercise",
  "mode.test": "Test",
  "mode.banner.exercise": "Exercise: no emergency has happened",
  "mode.banner.test": "Test: no emergency has happened",
  "status.anticipated": "Anticipated",
  "status.open": "Open",
  "status.cancelled": "Cancelled",
  "status.closed": "Closed",
  "severity.Extreme": "Extreme",
  "severity.Severe": "Severe",
  "severity.Moderate": "Moderate",
  "severity.Minor": "Minor",
  "severity.Unknown": "Severity unknown",
  "state.TRNC": "TRNC",

  "now.title": "Now",
  "now.filters": "Filters",
  "now.mode": "Mode",
  "now.state": "State",
  "now.status": "Status",
  "now.any": "All",
  "now.count.one": "{n} request",
  "now.count.other": "{n} requests",
  "now.more": "Show more",
  "now.empty": "No request is on the board.",
  "now.empty.filtered": "No request is as the filters ask.",
  "now.urgent.one": "{n} late",
  "now.urgent.other": "{n} late",
  "card.raised": "Raised {since} ago",
  "card.anticipated": "Anticipated {since} ago",
  "card.revision": "Revision {n}",
  "card.votes": "Votes",
  "card.votes.in": "{in} of {of}",
  "card.votes.none": "No ballot yet",
  "card.coverage": "Coverage",
  "card.coverage.of": "{covered} of {requested}",
  "card.coverage.on-time": "{n} on time",
  "card.pledges": "Pledges",
  "card.pledges.none": "No pledges yet",
  "card.coverage.none": "No needs yet",
  "card.pledges.of": "{accepted} of {offered} accepted",
  "card.authorized": "Mobilised",
  "card.waits": "Waits for",
  "card.waits.nothing": "Nothing waits.",
  "card.waits.more.one": "and {n} more",
  "card.waits.more.other": "and {n} more",
  "wait.vote": "{state} to vote",
  "wait.accept": "{state} to answer {what}",
  "wait.depart": "{state} to depart with {what}",
  "wait.arrive": "{state} to arrive with {what}",
  "wait.for": "for {span}",

  "turns.title": "Your turn",
  "turns.title.all": "Whose turn it is",
  "turns.none": "Nothing waits for you.",
  "turns.none.all": "No state is waited for.",
  "turns.many": "{n} or more",
  "turns.acknowledge": "Acknowledge",
  "turns.acknowledge.what": "Acknowledge: {what}",
  "turns.acknowledged": "Acknowledged by {who}",
  "turns.level": "Reminder {n}",
  "turns.failed": "Not acknowledged: {why}",

  "request.needs": "Needs",
  "request.needs.none": "No needs yet: the request is only anticipated.",
  "request.ballot": "Ballot",
  "request.ballot.none": "No ballot has been opened.",
  "request.ballots.before": "Earlier ballots",
  "request.pledges": "Pledges",
  "request.pledges.none": "Nobody has offered anything yet.",
  "request.mobilization": "Mobilisation",
  "request.mobilization.none": "Not authorised yet.",
  "request.mobilization.empty": "Authorised; no line yet.",
  "request.events": "Events",
  "request.events.what": "Newest first, each with the signature as this service has checked it",
  "request.events.more": "Show all {n} events",
  "request.plot": "Coverage over time",
  "request.plot.what": "Of each need, how much is covered (light) and how much arrives on time (full), over time",
  "request.plot.none": "Nothing has been covered yet.",
  "request.plot.one": "{need}: {covered} of {requested} covered, {on_time} on time",
  "request.place": "Place",
  "request.kind": "Kind",
  "request.acceptance": "Acceptance",
  "acceptance.manual": "each pledge by the affected state",
  "acceptance.automatic": "automatic",
  "request.language": "Language",
  "request.reason": "Reason",
  "request.text": "Words of the request",
  "request.unknown": "No request {id} is known.",
  "plot.now": "now",
  "plot.opened": "ballot",
  "plot.decided": "decision",
  "plot.authorized": "mobilised",
  "plot.needed": "needed by",

  "ballot.what": "Round {round}, revision {revision}, on {items}",
  "ballot.deadline": "Deadline",
  "ballot.outcome.open": "Open",
  "ballot.outcome.reached": "Consensus reached",
  "ballot.outcome.blocked": "Blocked",
  "ballot.outcome.lapsed": "Lapsed",
  "ballot.outcome.superseded": "Superseded",
  "ballot.outcome.withdrawn": "Withdrawn",
  "ballot.decided": "decided {when}",
  "ballot.positions": "Positions of the members",
  "ballot.corrected": "corrected",
  "position.approve": "Approves",
  "position.object": "Objects",
  "position.abstain": "Abstains",
  "position.constructive-abstain": "Abstains constructively",
  "position.not-participating": "Does not participate",
  "position.by-request": "By its request",
  "position.waited": "Waited for",
  "position.absent": "Absent",
  "position.reason": "Reason",
  "position.declaration": "Declaration",
  "position.reservation": "Reservation",
  "column.state": "State",
  "column.position": "Position",
  "column.words": "Words",
  "column.at": "At",
  "column.need": "Need",
  "column.what": "What",
  "column.priority": "Priority",
  "column.needed-by": "Needed by",
  "column.deliver-to": "Deliver to",
  "column.covered": "Covered",
  "column.pledge": "Pledge",
  "column.from": "From",
  "column.answers": "For",
  "column.status": "Status",
  "column.accepted": "Accepted",
  "column.journey": "Way",
  "column.arrives": "Arrives",
  "column.line": "Line",
  "column.departs": "Departs by",
  "column.why": "Why",
  "need.priority": "Priority {n}",
  "need.substitutes": "or {codes}",
  "need.bilateral": "{n} bilateral",
  "pledge.bilateral": "bilateral",
  "pledge.status.offered": "Offered",
  "pledge.status.accepted": "Accepted",
  "pledge.status.declined": "Declined",
  "pledge.status.withdrawn": "Withdrawn",
  "pledge.expires": "Offer ends",
  "pledge.conditions": "Conditions",
  "journey.committed": "{n} committed",
  "journey.departed": "{n} departed",
  "journey.arrived": "{n} arrived",
  "journey.released": "{n} released",
  "journey.none": "not yet",
  "line.estimated": "estimated",
  "mobilization.what": "Revision {revision}, authorised {when}",

  "signature.valid": "Signed by {by}",
  "signature.invalid": "Signature invalid",
  "signature.unknown-key": "Key unknown",
  "signature.none": "Not signed",
  "signature.key": "Key",
  "event.show": "Show",
  "event.hide": "Hide",
  "event.data": "Data of {event}",
  "event.RequestAnticipated": "Request anticipated",
  "event.RequestRaised": "Request raised",
  "event.RequestAmended": "Request amended",
  "event.RequestCancelled": "Request cancelled",
  "event.RequestClosed": "Request closed",
  "event.PledgeOffered": "Pledge offered",
  "event.PledgeRevised": "Pledge revised",
  "event.PledgeWithdrawn": "Pledge withdrawn",
  "event.PledgeAccepted": "Pledge accepted",
  "event.PledgeDeclined": "Pledge declined",
  "event.ResourceCommitted": "Committed",
  "event.ResourceDeparted": "Departed",
  "event.ResourceArrived": "Arrived",
  "event.ResourceReleased": "Released",
  "event.VoteCast": "Vote cast",
  "event.BallotOpened": "Ballot opened",
  "event.ConsensusReached": "Consensus reached",
  "event.ConsensusBlocked": "Consensus blocked",
  "event.BallotLapsed": "Ballot lapsed",
  "event.BallotSuperseded": "Ballot superseded",
  "event.BallotWithdrawn": "Ballot withdrawn",
  "event.MandateEnded": "Mandate ended",
  "event.MobilizationAuthorized": "Mobilisation authorised",
  "event.MobilizationRevised": "Mobilisation revised",

  "streams.title": "Streams",
  "streams.at": "As of {when}",
  "streams.services": "Services",
  "streams.ready": "Ready",
  "streams.not-ready": "Not ready",
  "streams.silent": "Does not answer",
  "streams.published": "Published",
  "streams.lag": "Lag",
  "streams.parked": "Parked",
  "streams.outbox": "Outbox",
  "streams.memory": "Memory",
  "streams.rejected": "Rejected",
  "streams.lanes": "Lanes",
  "streams.lanes.what": "Of each lane, records it is behind, and records a second",
  "streams.service": "Service",
  "streams.effect": "From event to effect",
  "streams.effect.what":
    "From the broker's stamp on a record to its effect: in the last seconds, and since the service started",
  "streams.effect.none": "Nothing has been handled yet.",
  "streams.topic": "Topic",
  "streams.lately.p50": "p50 now",
  "streams.lately.p99": "p99 now",
  "streams.all.p50": "p50",
  "streams.all.p99": "p99",
  "streams.kafka.silent": "Kafka does not answer: {why}",
  "streams.groups.left-out.one": "{n} group more",
  "streams.groups.left-out.other": "{n} groups more",
  "streams.count": "Records",
  "streams.groups": "Consumer groups",
  "streams.groups.what": "Whoever reads as a group, and how far behind",
  "streams.groups.none": "No group reads.",
  "streams.group": "Group",
  "streams.group.state": "State",
  "streams.members": "Members",
  "streams.partition": "Partition",
  "streams.offset": "Offset",
  "streams.end": "End",
  "streams.rejections": "Rejections",
  "streams.rejections.none": "Nothing has been rejected.",
  "streams.rejections.more": "Older ones",
  "streams.original": "Original",
  "streams.original.none": "The original is not kept (too large).",
  "streams.key": "Key",
  "streams.value": "Value",
  "streams.partitions": "Partitions",
  "streams.per-s": "{n}/s",
};

const TABLES = { en };
const language = document.documentElement.lang in TABLES ? document.documentElement.lang : "en";
/** How numbers and dates are written. */
export const locale = { en: "en-GB" }[language] ?? language;
const strings = TABLES[language];
const plural = new Intl.PluralRules(locale);
const whole = new Intl.NumberFormat(locale, { maximumFractionDigits: 1 });
const shares = new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 0 });
const megabyte = new Intl.NumberFormat(locale, { style: "unit", unit: "megabyte", maximumFractionDigits: 0 });
const millisecond = { style: "unit", unit: "millisecond" };
const millis = new Intl.NumberFormat(locale, { ...millisecond, maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat(locale, { ...millisecond, maximumFractionDigits: 1 });
const regions = new Intl.DisplayNames([locale], { type: "region" });
const languages = new Intl.DisplayNames([locale], { type: "language" });

const known = new Map(); // names of states: asked for with each card

/** The words of a key, with values put in. */
export function t(key, values = {}) {
  return parts(key, values).join("");
}

/** The same where values may be elements: a list for `h`. */
export function parts(key, values = {}) {
  return strings[key].split(/(\{[^}]+\})/).map((part) => (part.startsWith("{") ? values[part.slice(1, -1)] : part));
}

/** The words for so many. */
export function count(key, n) {
  const form = `${key}.${plural.select(n)}`;
  return t(form in strings ? form : `${key}.other`, { n: number(n) });
}

/** The words for a code; a code that is not known yet stands for itself. */
export function word(table, code) {
  return strings[`${table}.${code}`] ?? String(code);
}

/** A number as it is written in this language. */
export function number(n) {
  return whole.format(n);
}

/** A share of a hundred. */
export function percent(n) {
  return shares.format(n / 100);
}

/** Bytes, in MB. */
export function megabytes(bytes) {
  return megabyte.format(bytes / 1e6);
}

/** Milliseconds: tenths where there are few. */
export function milliseconds(ms) {
  return (ms < 10 ? tenths : millis).format(ms);
}

/** A state's name. */
export function stateName(code) {
  if (!known.has(code)) known.set(code, strings[`state.${code}`] ?? named(regions, code));
  return known.get(code);
}

/** A language's name. */
export function languageName(tag) {
  return named(languages, tag);
}

function named(names, code) {
  try {
    return names.of(code) ?? code;
  } catch {
    return code; // it has not the form of one
  }
}
