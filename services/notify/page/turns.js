// Whose turn it is: what the signed-in state is waited for, until it says that it knows.

import { get, post } from "./api.js";
import { eachFrame, h, patchChildren, written } from "./dom.js";
import { modeMark } from "./parts.js";
import { number, parts, t } from "./strings.js";
import { due, inWords, overdue, owed } from "./waits.js";

const EVERY_MS = 5_000;
const SHOWN = 40; // what is due first

/** Keeps a list of turns up to date in `root` until the function that it returns is called. `again` reads it at once. */
export function showTurns(root, me, frame) {
  let turns = [];
  let said = "";
  let stopped = false;
  const mayAcknowledge = me.role === "operator" || me.role === "secretariat";
  const paint = eachFrame(() => patchChildren(root, view(turns, me, mayAcknowledge, said)));

  async function read() {
    try {
      turns = (await get("/turns", { state: me.state, open: true, limit: SHOWN })).items;
      paint();
    } catch (error) {
      // That nobody answers is the live board's to say, which also knows when somebody does again.
      if (error.status === 401) frame.failed(error);
    }
  }

  async function acknowledge(id, what) {
    try {
      await post(`/turns/${encodeURIComponent(id)}/acknowledge`);
      said = "";
    } catch (error) {
      said = t("turns.failed", { why: error.message });
      if (error.status === 401) return frame.failed(error);
    }
    await read();
    return root.querySelector("h2")?.focus();
  }

  const onClick = (event) => {
    const id = event.target.closest?.("[data-turn]")?.dataset.turn;
    if (id !== undefined) acknowledge(id);
  };
  root.addEventListener("click", onClick);
  const timer = setInterval(() => stopped || document.hidden || read(), EVERY_MS);
  read();
  paint();
  return {
    again: read,
    stop() {
      stopped = true;
      clearInterval(timer);
      root.removeEventListener("click", onClick);
    },
  };
}

function view(turns, me, mayAcknowledge, said) {
  const mine = me.state !== null;
  const ordered = [...turns].sort(
    (a, b) => (a.acknowledged_at !== null) - (b.acknowledged_at !== null) || compare(a, b),
  );
  return h(
    "div",
    {},
    h(
      "h2",
      { tabindex: "-1" },
      t(mine ? "turns.title" : "turns.title.all"),
      turns.length > 0 &&
        h(
          "span",
          { class: "count" },
          turns.length < SHOWN ? number(turns.length) : t("turns.many", { n: number(SHOWN) }),
        ),
    ),
    h("p", { class: "said", role: "alert" }, said),
    turns.length === 0
      ? h("p", { class: "nothing" }, t(mine ? "turns.none" : "turns.none.all"))
      : h(
          "ul",
          { class: "turns" },
          ordered.map((turn) => item(turn, mayAcknowledge)),
        ),
  );
}

function compare(a, b) {
  return (a.deadline ?? "9") < (b.deadline ?? "9") ? -1 : 1;
}

function item(turn, mayAcknowledge) {
  const span = h(
    "span",
    { class: "span" },
    h("span", overdue(turn), due(turn)),
    turn.level > 0 && h("span", { class: "level" }, t("turns.level", { n: turn.level })),
  );
  const label = t("turns.acknowledge.what", { what: `${inWords(turn)}, ${turn.title.slice(0, 80)}` });
  const button = h(
    "button",
    { type: "button", "data-turn": turn.turn_id, "aria-label": label },
    t("turns.acknowledge"),
  );
  return h(
    "li",
    { "data-key": turn.turn_id, class: turn.acknowledged_at ? "turn known" : "turn" },
    h("div", { class: "what" }, h("span", {}, owed(turn)), modeMark(turn.mode)),
    h("a", { class: "of", href: `#/requests/${encodeURIComponent(turn.request_id)}` }, written(turn.title)),
    h("div", { class: "row" }, span, !turn.acknowledged_at && mayAcknowledge && button),
    turn.acknowledged_at &&
      h("div", { class: "by" }, parts("turns.acknowledged", { who: written(turn.acknowledged_by ?? "") })),
  );
}
