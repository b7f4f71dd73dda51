// What is owed, by whom, until when; late is loud.

import { h } from "./dom.js";
import { stateTag } from "./parts.js";
import { count, parts, t } from "./strings.js";
import { isLate, since, until } from "./time.js";

/** A list of what is waited for, the first `shown` of it. */
export function waitList(waits, shown = Infinity, inAll = waits.length) {
  const rest = inAll - shown;
  return h(
    "ul",
    { class: "waits" },
    waits
      .slice(0, shown)
      .map((wait) =>
        h(
          "li",
          { "data-key": `${wait.kind} ${wait.state} ${wait.what}`, ...overdue(wait) },
          h("span", {}, owed(wait)),
          due(wait),
        ),
      ),
    rest > 0 && h("li", { class: "more" }, count("card.waits.more", rest)),
  );
}

/** "KZ to vote". */
export function owed({ kind, state, what }) {
  return parts(`wait.${kind}`, { state: stateTag(state), what: h("bdi", { class: "id" }, thing(what)) });
}

/** The same for a label. */
export function inWords({ kind, state, what }) {
  return t(`wait.${kind}`, { state, what: thing(what) });
}

/** Of a pledge the revision is named too (`AZ-1/2`): of no use to who reads this. */
function thing(what) {
  return what.split("/")[0];
}

/** How long there is, or how long it has been. */
export function due({ deadline, since: begun }) {
  return deadline ? until(deadline) : h("span", { class: "span" }, parts("wait.for", { span: since(begun) }));
}

/** What makes a line loud once its deadline is past. */
export function overdue({ deadline }) {
  return { "data-due": deadline !== null, class: isLate(deadline) ? "overdue" : null };
}
