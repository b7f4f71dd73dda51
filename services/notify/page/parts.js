// What several views show alike.

import { h, written } from "./dom.js";
import { number, percent, stateName, t, word } from "./strings.js";

/** The mark of what is not real, with its word and its pattern; nothing on an actual emergency. */
export function modeMark(mode) {
  return mode === "actual" ? null : h("span", { class: `mode ${mode}` }, word("mode", mode));
}

/** A state's code, with its name behind it. */
export function stateTag(code) {
  return h("abbr", { class: "state", title: stateName(code) }, code);
}

/** How severe it is. */
export function severityMark(severity) {
  return h("span", { class: `severity ${severity.toLowerCase()}` }, word("severity", severity));
}

/** Where a request stands, once that is not simply open. */
export function statusMark(status) {
  return h("span", { class: `status ${status}` }, word("status", status));
}

/** A bar: a part in light, the part of it that counts in full; the figures stand beside it. */
export function bar(requested, covered, onTime) {
  const share = (n) => `${requested ? Math.min(100, (100 * n) / requested) : 0}%`;
  return h("span", {
    class: "bar",
    "aria-hidden": "true",
    vars: { "--covered": share(covered), "--on-time": share(onTime) },
  });
}

/** Coverage over all needs, in shares: their quantities are of different things. */
export function coverage({ requested, covered, on_time: onTime, percent: share }) {
  if (requested === 0) return h("p", { class: "nothing" }, t("card.coverage.none"));
  const inTime = covered ? Math.floor((share * onTime) / covered) : 0;
  return h(
    "div",
    { class: "coverage" },
    h(
      "div",
      { class: "figures" },
      h("strong", {}, percent(share)),
      " ",
      t("card.coverage.on-time", { n: percent(inTime) }),
    ),
    bar(100, share, inTime),
  );
}

/** The coverage of needs as the board has it: each need weighs the same. */
export function coverageOf(needs) {
  const sum = (name) => needs.reduce((all, need) => all + need[name], 0);
  const met = needs.reduce((all, need) => all + Math.min(1, need.covered / need.quantity), 0);
  return {
    requested: sum("quantity"),
    covered: sum("covered"),
    on_time: sum("on_time"),
    percent: needs.length ? Math.floor((100 * met) / needs.length) : 0,
  };
}

/** A place, with its state. */
export function placeOf(place) {
  return place ? h("span", { class: "place" }, stateTag(place.country), " ", written(place.name)) : t("none");
}

/** What a text says, cut to a few lines where it is long. `key`: under which it is opened (`Opened`). */
export function words(text, key, opened, className = "") {
  if (!text) return null;
  const whole = opened.has(key);
  const isLong = text.length > 240;
  return h(
    "div",
    { class: `words ${className}` },
    h(
      "div",
      {
        class: isLong && !whole ? "clipped" : isLong ? "whole" : null,
        tabindex: isLong && whole ? "0" : null,
        role: isLong && whole ? "group" : null,
        "aria-label": isLong && whole ? t("show.all") : null,
      },
      written(text),
    ),
    isLong && opener(key, whole, t(whole ? "show.less" : "show.all")),
  );
}

/** A button that opens and closes something. */
export function opener(key, isOpen, label, described = null) {
  return h(
    "button",
    { class: "quiet", type: "button", "data-opens": key, "aria-expanded": String(isOpen), "aria-label": described },
    label,
  );
}

/** What is open of a view: keys. `listen` makes a view's openers work. */
export class Opened {
  #keys = new Set();
  has(key) {
    return this.#keys.has(key);
  }
  listen(root, redraw) {
    root.addEventListener("click", (event) => {
      const key = event.target.closest?.("[data-opens]")?.dataset.opens;
      if (key === undefined) return;
      if (!this.#keys.delete(key)) this.#keys.add(key);
      redraw();
    });
  }
}

/** A table in a box of its own, which scrolls where the page is narrower. */
export function table(caption, columns, rows, { note = null, className = "" } = {}) {
  return h(
    "div",
    { class: `table ${className}`, tabindex: "0", role: "group", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", {}, caption, note && h("small", {}, note)),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          columns.map((column) =>
            h("th", { scope: "col", class: column.number ? "number" : null }, column.name ?? column),
          ),
        ),
      ),
      h("tbody", {}, rows),
    ),
  );
}

/** A quantity with its unit. */
export function quantity(n, unit, capability) {
  const what = unit === "item" ? capability : `${unit} ${capability}`;
  return h("span", { class: "quantity" }, h("strong", {}, number(n)), " ", what);
}

/** Name and value, side by side. */
export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}
