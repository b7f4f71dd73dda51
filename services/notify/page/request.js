// Request: one request in full, live. Each change brings the whole view; the events behind the last one read are fetched.

import { get } from "./api.js";
import { eachFrame, h, patchChildren, written } from "./dom.js";
import { eventList, readEvent } from "./events.js";
import {
  bar,
  coverage,
  coverageOf,
  facts,
  modeMark,
  Opened,
  placeOf,
  quantity,
  severityMark,
  stateTag,
  statusMark,
  table,
  words,
} from "./parts.js";
import { coveragePlot } from "./plot.js";
import { follow } from "./sse.js";
import { languageName, number, parts, t, word } from "./strings.js";
import { since, until, when } from "./time.js";
import { waitList } from "./waits.js";

const PAGE = 200;

/** Shows the request in `root` until `stop`. */
export function request(root, frame, id) {
  const opened = new Opened();
  const reading = new AbortController();
  let view = null;
  let events = [];
  let place = 0;
  let catchingUp = null;
  let width = 0;
  let unknown = null;
  let isLive = false;

  const body = h("div", { class: "request" });
  root.append(body);
  opened.listen(body, () => paint());
  const paint = eachFrame(() => {
    if (unknown) return patchChildren(body, h("div", {}, back(), h("h1", { tabindex: "-1" }, unknown)));
    if (!view)
      return patchChildren(
        body,
        h("div", {}, back(), h("h1", { tabindex: "-1" }, written(id)), h("p", { class: "nothing" }, t("loading"))),
      );
    frame.title(view.emergency.title.slice(0, 120), view.mode);
    return patchChildren(body, draw(view, events, opened, width));
  });
  const resizing = new ResizeObserver(() => {
    const next = Math.floor(body.querySelector("[data-plot]")?.clientWidth ?? body.clientWidth);
    if (Math.abs(next - width) < 2) return;
    width = next;
    paint();
  });
  resizing.observe(body);
  frame.title(id.slice(0, 80), "actual");
  paint();

  /** Reads the events that came since; one reading at a time, and once more if something changed meanwhile. */
  async function catchUp() {
    if (catchingUp) {
      catchingUp = "again";
      return undefined;
    }
    do {
      catchingUp = "now";
      try {
        for (let after = place; after !== null;) {
          const page = await get(`/requests/${encodeURIComponent(id)}/events`, { after, limit: PAGE }, reading.signal);
          events = events.concat(page.items.map(readEvent));
          place = events.at(-1)?.seq ?? place;
          after = page.next;
        }
        if (isLive) frame.connection("live");
        paint();
      } catch (error) {
        catchingUp = null;
        if (error.name === "AbortError") return;
        if (error.status !== 404 && error.status !== 422) return frame.failed(error, catchUp);
        unknown = view ? null : t("request.unknown", { id }); // it is shown as soon as it is raised
        return paint();
      }
    } while (catchingUp === "again");
    catchingUp = null;
    return undefined;
  }

  catchUp();
  const stopFollowing = follow(`/requests/${encodeURIComponent(id)}/live`, {
    onEvent: (data) => {
      view = JSON.parse(data);
      unknown = null;
      paint();
      catchUp();
    },
    onState: (state) => {
      isLive = state === "live";
      frame.connection(state);
    },
    onRefused: (problem) => problem.status !== 422 && frame.failed(problem),
  });
  return () => {
    stopFollowing();
    reading.abort();
    resizing.disconnect();
  };
}

function back() {
  return h("p", { class: "back" }, h("a", { href: "#/" }, "← ", t("back")));
}

function draw(view, events, opened, width) {
  const [ballot, ...before] = [...view.ballots].sort((a, b) => (a.opened_at < b.opened_at ? 1 : -1));
  return h(
    "div",
    {},
    back(),
    head(view, opened),
    h(
      "div",
      { class: "columns" },
      h(
        "div",
        { class: "wide" },
        section(
          "request.plot",
          "plot-section",
          h(
            "div",
            { "data-plot": true },
            view.coverage_over_time.length && width
              ? coveragePlot(view, width)
              : h("p", { class: "nothing" }, t("request.plot.none")),
          ),
        ),
        section("request.needs", "", needs(view, opened)),
        section("request.pledges", "", pledges(view, opened)),
        section("request.mobilization", "", mobilization(view)),
      ),
      h(
        "div",
        { class: "side" },
        view.waits.length > 0 && section("card.waits", "", waitList(view.waits)),
        section(
          "request.ballot",
          "",
          ballot ? ballotBox(ballot, opened) : h("p", { class: "nothing" }, t("request.ballot.none")),
        ),
        before.length > 0 &&
          section(
            "request.ballots.before",
            "",
            before.map((each) => ballotBox(each, opened)),
          ),
        section("request.events", "", h("p", { class: "note" }, t("request.events.what")), eventList(events, opened)),
      ),
    ),
  );
}

function section(title, className, ...children) {
  return h(
    "section",
    { "data-key": title, class: className || null, "aria-labelledby": title },
    h("h2", { id: title }, t(title)),
    children,
  );
}

function head(view, opened) {
  const { emergency } = view;
  return h(
    "div",
    { class: `head card ${emergency.severity.toLowerCase()} ${view.mode}` },
    h(
      "div",
      { class: "marks" },
      severityMark(emergency.severity),
      statusMark(view.status),
      modeMark(view.mode),
      h(
        "span",
        { class: "since" },
        parts(view.status === "anticipated" ? "card.anticipated" : "card.raised", { since: since(view.raised_at) }),
      ),
    ),
    h("h1", { tabindex: "-1" }, written(emergency.title)),
    h(
      "p",
      { class: "where" },
      stateTag(view.state),
      " ",
      written(emergency.place.name),
      " · ",
      h("span", { class: "id" }, view.request_id),
      view.revision > 1 && [" · ", t("card.revision", { n: view.revision })],
    ),
    h("div", { class: "total" }, h("h2", {}, t("card.coverage")), coverage(coverageOf(view.needs))),
    words(view.text, "text", opened, "statement"),
    facts([
      [t("request.kind"), written(emergency.kind)],
      [t("request.acceptance"), view.acceptance ? word("acceptance", view.acceptance) : null],
      [t("request.language"), view.language ? written(languageName(view.language)) : null],
      [t("request.reason"), view.reason ? words(view.reason, "reason", opened) : null],
    ]),
  );
}

function needs(view, opened) {
  if (!view.needs.length) return h("p", { class: "nothing" }, t("request.needs.none"));
  const columns = ["need", "what", "covered", "needed-by", "deliver-to"].map((name) => t(`column.${name}`));
  const row = (need) =>
    h(
      "tr",
      { "data-key": need.need_id },
      h("th", { scope: "row" }, id(need.need_id), h("small", {}, t("need.priority", { n: need.priority }))),
      h(
        "td",
        {},
        quantity(need.quantity, need.unit, need.capability),
        words(need.text, `need ${need.need_id}`, opened),
      ),
      h("td", { class: "cover" }, coveredOf(need), bar(need.quantity, need.covered, need.on_time)),
      h("td", {}, when(need.needed_by)),
      h("td", {}, placeOf(need.deliver_to)),
    );
  return table(t("request.needs"), columns, [...view.needs].sort((a, b) => a.priority - b.priority).map(row));
}

function coveredOf(need) {
  const figures = { covered: number(need.covered), requested: number(need.quantity) };
  const said = [t("card.coverage.of", figures), t("card.coverage.on-time", { n: number(need.on_time) })];
  if (need.bilateral > 0) said.push(t("need.bilateral", { n: number(need.bilateral) }));
  return h("div", { class: "figures" }, said.join(" · "));
}

function ballotBox(ballot, opened) {
  const outcome = ballot.outcome ?? "open";
  return h(
    "div",
    { class: `ballot ${outcome}`, "data-key": ballot.ballot_id },
    h(
      "p",
      { class: "verdict" },
      h("strong", { class: `outcome ${outcome}` }, t(`ballot.outcome.${outcome}`)),
      " ",
      ballot.decided_at ? parts("ballot.decided", { when: when(ballot.decided_at) }) : until(ballot.deadline),
    ),
    h(
      "p",
      { class: "note" },
      t("ballot.what", {
        round: number(ballot.round),
        revision: number(ballot.revision),
        items: ballot.items.join(", "),
      }),
    ),
    h(
      "ul",
      { class: "positions", "aria-label": t("ballot.positions") },
      ballot.roll.map((state) => position(state, ballot, opened)),
    ),
  );
}

function position(state, ballot, opened) {
  const given = ballot.positions[state];
  const byRequest = given?.sequence === 0;
  const kind = given ? given.position : ballot.outcome ? "absent" : "waited";
  const key = `${ballot.ballot_id} ${state}`;
  const said = (name) =>
    given?.[name] &&
    h(
      "div",
      { class: "said-so" },
      h("span", { class: "label" }, t(`position.${name}`)),
      words(given[name], `${key} ${name}`, opened),
    );
  return h(
    "li",
    { "data-key": state, class: `position ${kind}` },
    h(
      "div",
      { class: "line" },
      stateTag(state),
      h("span", { class: "kind" }, byRequest ? t("position.by-request") : word("position", kind)),
      given?.sequence > 1 && h("small", {}, t("ballot.corrected")),
      given?.at && h("span", { class: "at" }, when(given.at)),
    ),
    said("reason"),
    said("declaration"),
    said("reservation"),
  );
}

function pledges(view, opened) {
  if (!view.pledges.length) return h("p", { class: "nothing" }, t("request.pledges.none"));
  const columns = ["pledge", "what", "status", "journey", "arrives", "answers", "from"].map((name) =>
    t(`column.${name}`),
  );
  const row = (pledge) =>
    h(
      "tr",
      { "data-key": pledge.pledge_id, class: `pledge ${pledge.status}` },
      h(
        "th",
        { scope: "row" },
        id(pledge.pledge_id),
        pledge.channel === "bilateral" && h("small", {}, t("pledge.bilateral")),
      ),
      h(
        "td",
        {},
        quantity(pledge.quantity, pledge.unit, pledge.capability),
        words(pledge.conditions, `pledge ${pledge.pledge_id}`, opened),
      ),
      h(
        "td",
        {},
        h("span", { class: `pledge-status ${pledge.status}` }, word("pledge.status", pledge.status)),
        pledge.accepted > 0 && ` ${number(pledge.accepted)}`,
      ),
      h("td", {}, journey(pledge)),
      h("td", {}, when(pledge.arrives_at)),
      h("td", {}, pledge.answers.join(", ") || t("none")),
      h("td", {}, placeOf(pledge.origin)),
    );
  return table(t("request.pledges"), columns, view.pledges.map(row));
}

/** How far it has come: reports add up, so each stage has its own number. */
function journey(pledge) {
  const stages = ["committed", "departed", "arrived", "released"].filter((stage) => pledge[stage] > 0);
  if (!stages.length) return h("span", { class: "nothing" }, t("journey.none"));
  return h(
    "span",
    { class: `journey ${stages.at(-1)}` },
    stages.map((stage) => h("span", { class: stage }, t(`journey.${stage}`, { n: number(pledge[stage]) }))),
  );
}

function mobilization(view) {
  const plan = view.mobilization;
  if (!plan) return h("p", { class: "nothing" }, t("request.mobilization.none"));
  const note = h(
    "p",
    { class: "note" },
    parts("mobilization.what", { revision: number(plan.revision), when: when(plan.authorized_at) }),
  );
  if (!plan.lines.length) return [note, h("p", { class: "nothing" }, t("request.mobilization.empty"))];
  const columns = ["line", "what", "departs", "arrives", "need", "why"].map((name) => t(`column.${name}`));
  const row = (line) =>
    h(
      "tr",
      { "data-key": line.line_id },
      h("th", { scope: "row" }, id(line.line_id)),
      h("td", {}, quantity(line.quantity, line.unit, line.capability)),
      h("td", {}, when(line.depart_by)),
      h("td", {}, when(line.arrives_at), line.estimated && h("small", {}, t("line.estimated"))),
      h("td", {}, line.need_id),
      h("td", {}, written(line.reason ?? "")),
    );
  return [note, table(t("request.mobilization"), columns, plan.lines.map(row))];
}

function id(text) {
  return h("span", { class: "id" }, text);
}
