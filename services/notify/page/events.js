// The events of a request as they stand on the topics, each with what was found of its signature.

import { h, written } from "./dom.js";
import { opener, stateTag } from "./parts.js";
import { number, parts, t, word } from "./strings.js";
import { clock, exact } from "./time.js";

const SHOWN = 60;
const MARKS = { valid: "✓", invalid: "✗", "unknown-key": "?", none: "–" };

/** The list, newest first; `data` of each is decoded once (`readEvent`). */
export function eventList(entries, opened) {
  const all = opened.has("events");
  const newest = [...entries].reverse();
  const shown = all ? newest : newest.slice(0, SHOWN);
  return [
    h(
      "ol",
      { class: "events", reversed: true },
      shown.map((entry) => item(entry, opened)),
    ),
    newest.length > SHOWN &&
      opener("events", all, all ? t("show.less") : t("request.events.more", { n: number(newest.length) })),
  ];
}

/** An item of `/requests/{id}/events` with its data read; data that cannot be read is null. */
export function readEvent(entry) {
  const event = entry.event;
  let data = event.data ?? null;
  if (event.data_base64 !== undefined) {
    try {
      data = JSON.parse(
        new TextDecoder().decode(Uint8Array.from(atob(event.data_base64), (byte) => byte.charCodeAt(0))),
      );
    } catch {
      data = null;
    }
  }
  return {
    ...entry,
    data,
    name: String(event.type)
      .replace(/^qalqan\./, "")
      .replace(/\.v\d+$/, ""),
  };
}

function item(entry, opened) {
  const { event, signature, data, name } = entry;
  const key = `event ${entry.seq}`;
  const isOpen = opened.has(key);
  const title = word("event", name);
  const at = event.recordedtime ?? event.time;
  return h(
    "li",
    { "data-key": key, class: `event ${entry.topic}` },
    h(
      "div",
      { class: "line" },
      at && h("time", { datetime: at, title: exact(at) }, clock(at)),
      h(
        "span",
        { class: "title" },
        h("strong", {}, title),
        " ",
        h("span", { class: "gist" }, data ? gist(name, data) : null),
      ),
      badge(signature),
      opener(
        key,
        isOpen,
        t(isOpen ? "event.hide" : "event.show"),
        `${t(isOpen ? "event.hide" : "event.show")}: ${title} ${number(entry.seq)}`,
      ),
    ),
    isOpen && detail(entry, title),
  );
}

function badge({ state, by }) {
  const who = by && (by.length <= 4 ? stateTag(by) : h("span", {}, by));
  return h(
    "span",
    { class: `signature ${state}` },
    h("span", { "aria-hidden": "true" }, MARKS[state] ?? "?"),
    " ",
    state === "valid" ? parts("signature.valid", { by: who ?? "" }) : word("signature", state),
  );
}

function detail({ event, signature, data, topic }, title) {
  const { data: _data, data_base64: _bytes, dssematerial: _signature, ...envelope } = event;
  const text = JSON.stringify({ ...envelope, data }, null, 2);
  return h(
    "div",
    { class: "detail" },
    signature.why && h("p", { class: "why" }, written(signature.why)),
    signature.key_id &&
      h("p", { class: "key" }, t("signature.key"), " ", h("code", {}, signature.key_id), " · ", topic),
    h("pre", { tabindex: "0", role: "group", "aria-label": t("event.data", { event: title }) }, h("bdi", {}, text)),
  );
}

/** The one thing to know of an event, without opening it. */
function gist(name, data) {
  const id = (value) => h("bdi", { class: "id" }, String(value ?? ""));
  const amount = () => ["", " ", number(data.quantity ?? 0), " ", data.unit ?? "", " ", data.capability ?? ""];
  switch (name) {
    case "VoteCast":
      return [stateTag(data.state), " ", word("position", data.position)];
    case "PledgeOffered":
    case "PledgeRevised":
      return [id(data.pledge_id), amount()];
    case "PledgeAccepted":
      return [id(data.pledge_id), " × ", number(data.quantity)];
    case "ResourceCommitted":
    case "ResourceDeparted":
    case "ResourceArrived":
    case "ResourceReleased":
      return [id(data.pledge_id), " × ", number(data.quantity), data.place ? [" · ", written(data.place.name)] : null];
    case "PledgeWithdrawn":
    case "PledgeDeclined":
      return [id(data.pledge_id), " ", written(data.reason ?? "")];
    case "RequestCancelled":
    case "RequestClosed":
      return written(data.reason ?? "");
    case "RequestAnticipated":
    case "RequestRaised":
    case "RequestAmended":
      return written(data.emergency?.title ?? "");
    case "ConsensusBlocked":
      return (data.blocked_by ?? []).map((each) => [stateTag(each.state), " "]);
    default:
      return null;
  }
}
