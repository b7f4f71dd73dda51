// Now: the requests as a board. The board is read once, then every change as it comes; what changed is painted before the next frame.

import { get, withQuery } from "./api.js";
import { eachFrame, h, move, patch, patchChildren, written } from "./dom.js";
import { coverage, modeMark, severityMark, stateTag, statusMark } from "./parts.js";
import { follow } from "./sse.js";
import { count, number, parts, stateName, t, word } from "./strings.js";
import { since, until } from "./time.js";
import { showTurns } from "./turns.js";
import { waitList } from "./waits.js";

const PAGE = 60;
const SPARE = 200; // cards beyond those shown that are kept
const WAITS_SHOWN = 3;
const MODES = ["actual", "exercise", "test"];
const STATES = ["AZ", "KG", "KZ", "TR", "UZ", "HU", "TM", "TRNC"];
const STATUSES = ["anticipated", "open", "cancelled", "closed"];
const SEVERITIES = ["Extreme", "Severe", "Moderate", "Minor", "Unknown"];

/** Shows the board in `root` until `stop`. */
export function now(root, frame) {
  const filters = { mode: "", state: "", status: "" };
  const cards = new Map();
  const nodes = new Map();
  let changed = new Set();
  let limit = PAGE;
  let more = false;
  let loaded = false;
  let stopFollowing = () => {};
  let reading = new AbortController();

  const tally = h("p", { class: "tally", role: "status" });
  const list = h("ol", { class: "board" });
  const rest = h("div", { class: "rest" });
  const turnsRoot = h("aside", { "aria-label": t(frame.me.state ? "turns.title" : "turns.title.all") });
  root.append(
    h("div", { class: "head" }, h("h1", { tabindex: "-1" }, t("now.title")), tally, filterForm(filters, reload)),
    h(
      "div",
      { class: "columns" },
      h("div", { class: "wide" }, list, rest),
      h("div", { class: frame.me.state ? "side mine" : "side" }, turnsRoot),
    ),
  );
  rest.addEventListener("click", (event) => {
    if (!event.target.closest("button")) return;
    limit += PAGE;
    reload();
  });
  const turns = showTurns(turnsRoot, frame.me, frame);
  frame.title(t("now.title"), "actual");

  const paint = eachFrame(() => {
    const ordered = [...cards.values()].sort(compareCards);
    const shown = ordered.slice(0, limit);
    if (ordered.length > limit + SPARE) {
      for (const card of ordered.slice(limit)) cards.delete(card.request_id); // they are asked for when they are wanted
      more = true;
    }
    const places = new Set(shown.map((card) => card.request_id));
    for (const [id, node] of nodes) {
      if (places.has(id)) continue;
      node.remove();
      nodes.delete(id);
    }
    let at = list.firstChild;
    for (const card of shown) {
      const node = nodes.get(card.request_id);
      if (node === undefined) {
        const made = cardOf(card);
        nodes.set(card.request_id, made);
        list.insertBefore(made, at);
        continue;
      }
      if (changed.has(card.request_id)) patch(node, cardOf(card));
      if (node === at) at = at.nextSibling;
      else move(list, node, at);
    }
    changed = new Set();
    paintRest(ordered.length - shown.length);
  });

  function paintRest(hidden) {
    const shown = [...nodes.keys()].map((id) => cards.get(id));
    const said = loaded ? [count("now.count", shown.length)] : [t("loading")];
    patchChildren(tally, h("p", {}, said));
    const isEmpty = loaded && shown.length === 0;
    const isFiltered = Object.values(filters).some(Boolean);
    patchChildren(
      rest,
      h(
        "div",
        {},
        isEmpty && h("p", { class: "nothing" }, t(isFiltered ? "now.empty.filtered" : "now.empty")),
        (more || hidden > 0) && h("button", { type: "button" }, t("now.more")),
      ),
    );
    const modes = new Set(shown.map((card) => card.mode));
    frame.title(t("now.title"), shown.length > 0 && !modes.has("actual") ? [...modes].sort()[0] : "actual");
  }

  function take(card) {
    const before = cards.get(card.request_id);
    if (before && before.seq > card.seq) return;
    // The live board takes no status: a card that has another now goes.
    if (filters.status && card.status !== filters.status) cards.delete(card.request_id);
    else cards.set(card.request_id, card);
    changed.add(card.request_id);
    paint();
  }

  async function reload() {
    reading.abort();
    reading = new AbortController();
    stopFollowing();
    const query = { mode: filters.mode, state: filters.state };
    try {
      const board = await get("/board", { ...query, status: filters.status, limit }, reading.signal);
      cards.clear();
      for (const card of board.cards) {
        cards.set(card.request_id, card);
        changed.add(card.request_id);
      }
      more = board.more;
      loaded = true;
      paint();
      stopFollowing = follow(withQuery("/board/live", query), {
        after: board.seq,
        onEvent: (data) => take(JSON.parse(data)),
        onState: frame.connection,
        // The numbers are no longer those that we know (the store was made anew): from the beginning.
        onRefused: (problem) => (problem.status === 400 ? reload() : frame.failed(problem)),
      });
    } catch (error) {
      if (error.name === "AbortError") return;
      frame.failed(error, reload);
    }
  }

  reload();
  return () => {
    reading.abort();
    stopFollowing();
    turns.stop();
  };
}

function filterForm(filters, reload) {
  const choice = (name, values, label) =>
    h(
      "label",
      {},
      h("span", {}, t(`now.${name}`)),
      h(
        "select",
        { name },
        h("option", { value: "" }, t("now.any")),
        values.map((value) => h("option", { value }, label(value))),
      ),
    );
  const form = h(
    "form",
    { class: "filters", "aria-label": t("now.filters") },
    choice("mode", MODES, (mode) => word("mode", mode)),
    choice("state", STATES, (state) => `${state} ${stateName(state)}`),
    choice("status", STATUSES, (status) => word("status", status)),
  );
  form.addEventListener("change", (event) => {
    filters[event.target.name] = event.target.value;
    reload();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  return form;
}

function isEnded(card) {
  return card.status === "cancelled" || card.status === "closed";
}

/** As the server orders them: ongoing before ended; of these what is real first, the most severe, the newest. */
function compareCards(a, b) {
  if (isEnded(a) !== isEnded(b)) return isEnded(a) - isEnded(b);
  const rank = ({ mode, severity }) => SEVERITIES.indexOf(severity) + (mode === "actual" ? 0 : SEVERITIES.length);
  if (!isEnded(a) && rank(a) !== rank(b)) return rank(a) - rank(b);
  const [newer, older] = isEnded(a) ? [b.changed_at, a.changed_at] : [b.raised_at, a.raised_at];
  return newer === older ? (a.request_id < b.request_id ? -1 : 1) : newer < older ? -1 : 1;
}

function cardOf(card) {
  const ended = isEnded(card);
  return h(
    "li",
    {
      "data-key": card.request_id,
      "data-seq": card.seq,
      class: `card ${card.severity.toLowerCase()} ${card.mode}${ended ? " ended" : ""}`,
    },
    card.mode !== "actual" && h("div", { class: `strip ${card.mode}` }, word("mode", card.mode)),
    h(
      "article",
      {},
      h(
        "div",
        { class: "marks" },
        severityMark(card.severity),
        card.status !== "open" && statusMark(card.status),
        h(
          "span",
          { class: "since" },
          parts(card.status === "anticipated" ? "card.anticipated" : "card.raised", { since: since(card.raised_at) }),
        ),
      ),
      h("h2", {}, h("a", { href: `#/requests/${encodeURIComponent(card.request_id)}` }, written(card.title))),
      h(
        "p",
        { class: "where" },
        stateTag(card.state),
        " ",
        written(card.place),
        " · ",
        h("span", { class: "id" }, card.request_id),
        card.revision > 1 && [" · ", t("card.revision", { n: card.revision })],
      ),
      h(
        "div",
        { class: "measures" },
        votes(card.ballot),
        h("div", {}, h("h3", {}, t("card.coverage")), coverage(card.coverage)),
      ),
      h(
        "p",
        { class: "pledged" },
        pledged(card.pledges),
        card.authorized_at && [" · ", h("span", { class: "good" }, t("card.authorized"))],
      ),
      !ended &&
        h(
          "div",
          { class: "waiting" },
          h("h3", {}, t("card.waits")),
          card.waiting ? waitList(card.waits, WAITS_SHOWN, card.waiting) : h("p", { class: "nothing" }, t("card.waits.nothing")),
        ),
    ),
  );
}

function pledged({ accepted, offered }) {
  if (offered === 0) return t("card.pledges.none");
  return `${t("card.pledges")}: ${t("card.pledges.of", { accepted: number(accepted), offered: number(offered) })}`;
}

function votes(ballot) {
  if (!ballot) return h("div", {}, h("h3", {}, t("card.votes")), h("p", { class: "nothing" }, t("card.votes.none")));
  const outcome = ballot.outcome ?? "open";
  const dots = Array.from({ length: Math.min(ballot.of, 24) }, (_, place) =>
    h("i", { class: place < ballot.in ? "in" : null }),
  );
  return h(
    "div",
    {},
    h("h3", {}, t("card.votes")),
    h(
      "div",
      { class: "figures" },
      h("strong", {}, t("card.votes.in", { in: number(ballot.in), of: number(ballot.of) })),
      " ",
      outcome === "open"
        ? until(ballot.deadline)
        : h("span", { class: `outcome ${outcome}` }, t(`ballot.outcome.${outcome}`)),
    ),
    h("div", { class: `dots ${outcome}`, "aria-hidden": "true" }, dots),
  );
}
