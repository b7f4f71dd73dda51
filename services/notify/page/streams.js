// Streams: how the system itself is, for those who run it. Read every two seconds while somebody looks.

import { get } from "./api.js";
import { eachFrame, h, patchChildren, written } from "./dom.js";
import { facts, Opened, opener, table, words } from "./parts.js";
import { count, megabytes, milliseconds, number, parts, t, word } from "./strings.js";
import { exact, since, when } from "./time.js";

const EVERY_MS = 2_000;
const REJECTIONS = 25;

/** Shows the streams in `root` until `stop`. */
export function streams(root, frame) {
  const opened = new Opened();
  const reading = new AbortController();
  let standing = null;
  let rejections = [];
  let older = null;
  let timer = null;

  const body = h("div", { class: "streams" });
  root.append(body);
  opened.listen(body, () => paint());
  body.addEventListener("click", (event) => {
    if (event.target.closest?.("[data-older]")) readOlder();
  });
  const paint = eachFrame(() => patchChildren(body, draw(standing, rejections, older, opened)));
  frame.title(t("streams.title"), "actual");
  paint();

  async function read() {
    try {
      const [now, newest] = await Promise.all([
        get("/streams", {}, reading.signal),
        get("/rejections", { limit: REJECTIONS }, reading.signal),
      ]);
      standing = now;
      join(newest);
      frame.connection("live");
      paint();
    } catch (error) {
      if (error.name === "AbortError") return;
      frame.failed(error);
      if (error.status >= 400 && error.status < 500) return;
    }
    timer = setTimeout(read, EVERY_MS);
  }

  /** Puts the newest before those that are known; where they do not meet, the known ones are dropped. */
  function join(page) {
    const known = new Set(rejections.map((each) => each.seq));
    const fresh = page.items.filter((each) => !known.has(each.seq));
    if (fresh.length === page.items.length) {
      rejections = page.items;
      older = page.next;
    } else rejections = [...fresh, ...rejections];
  }

  async function readOlder() {
    try {
      const page = await get("/rejections", { before: older, limit: REJECTIONS }, reading.signal);
      rejections = [...rejections, ...page.items];
      older = page.next;
      paint();
    } catch (error) {
      if (error.name !== "AbortError") frame.failed(error);
    }
  }

  read();
  return () => {
    reading.abort();
    clearTimeout(timer);
  };
}

function draw(standing, rejections, older, opened) {
  const title = h(
    "div",
    { class: "head" },
    h("h1", { tabindex: "-1" }, t("streams.title")),
    h("p", { class: "tally" }, standing ? parts("streams.at", { when: exact(standing.at) }) : t("loading")),
  );
  if (!standing) return h("div", {}, title);
  return h(
    "div",
    {},
    title,
    section("streams.services", h("ul", { class: "tiles" }, standing.services.map(tile))),
    h(
      "div",
      { class: "pair" },
      section("streams.effect", effects(standing.services)),
      section("streams.groups", groups(standing.groups, opened)),
    ),
    section("streams.lanes", lanes(standing.services)),
    section("streams.rejections", rejected(rejections, older, opened)),
  );
}

function section(title, ...children) {
  return h("section", { "data-key": title, "aria-labelledby": title }, h("h2", { id: title }, t(title)), children);
}

function tile(service) {
  const health = !service.answers ? "silent" : service.ready ? "ready" : "not-ready";
  const total = Object.values(service.rejected ?? {}).reduce((sum, n) => sum + n, 0);
  return h(
    "li",
    { "data-key": service.service, class: `tile ${health}` },
    h("h3", {}, service.service),
    h("p", { class: "health" }, t(`streams.${health}`)),
    service.answers &&
      facts([
        [t("streams.published"), t("streams.per-s", { n: number(service.published_per_s ?? 0) })],
        [t("streams.lag"), number(service.lag ?? 0)],
        [t("streams.parked"), number(service.parked ?? 0)],
        [t("streams.outbox"), service.outbox_age_s === null ? t("none") : milliseconds(1000 * service.outbox_age_s)],
        [t("streams.rejected"), number(total)],
        [t("streams.memory"), service.memory_bytes ? megabytes(service.memory_bytes) : t("none")],
      ]),
  );
}

function effects(services) {
  const rows = services.flatMap((service) =>
    Object.entries(service.effect ?? {}).map(([topic, effect]) => [service.service, topic, effect]),
  );
  if (!rows.length) return h("p", { class: "nothing" }, t("streams.effect.none"));
  const figure = (ms) => h("td", { class: "number" }, ms === null ? t("none") : milliseconds(ms));
  return table(
    t("streams.effect"),
    [
      t("streams.service"),
      t("streams.topic"),
      { name: "p50", number: true },
      { name: "p99", number: true },
      { name: t("streams.count"), number: true },
    ],
    rows.map(([service, topic, effect]) =>
      h(
        "tr",
        { "data-key": `${service} ${topic}` },
        h("th", { scope: "row" }, service),
        h("td", {}, topic),
        figure(effect.p50_ms),
        figure(effect.p99_ms),
        h("td", { class: "number" }, number(effect.count)),
      ),
    ),
    { note: t("streams.effect.what") },
  );
}

function lanes(services) {
  const numbers = [...new Set(services.flatMap((service) => (service.lanes ?? []).map((lane) => lane.partition)))].sort(
    (a, b) => a - b,
  );
  if (!numbers.length) return h("p", { class: "nothing" }, t("none"));
  return table(
    t("streams.lanes"),
    [t("streams.service"), ...numbers.map((n) => ({ name: String(n), number: true }))],
    services
      .filter((service) => service.lanes?.length)
      .map((service) => {
        const byNumber = new Map(service.lanes.map((lane) => [lane.partition, lane]));
        return h(
          "tr",
          { "data-key": service.service },
          h("th", { scope: "row" }, service.service),
          numbers.map((n) => laneCell(byNumber.get(n))),
        );
      }),
    { note: t("streams.lanes.what"), className: "lanes" },
  );
}

function laneCell(lane) {
  if (!lane) return h("td", { class: "number" }, t("none"));
  const lag = Object.values(lane.lag ?? {}).reduce((sum, n) => sum + n, 0);
  const details = Object.entries(lane.lag ?? {})
    .map(([topic, n]) => `${topic}: ${n}`)
    .join("\n");
  return h(
    "td",
    { class: `number ${lag > 100 ? "behind" : lag > 0 ? "busy" : ""}`, title: details },
    h("strong", {}, number(lag)),
    h("small", {}, t("streams.per-s", { n: number(lane.rate_per_s ?? 0) })),
  );
}

function groups(all, opened) {
  if (!all.length) return h("p", { class: "nothing" }, t("streams.groups.none"));
  return table(
    t("streams.groups"),
    [
      t("streams.group"),
      t("streams.group.state"),
      { name: t("streams.members"), number: true },
      { name: t("streams.lag"), number: true },
      t("streams.partitions"),
    ],
    all.flatMap((group) => {
      const key = `group ${group.group}`;
      const isOpen = opened.has(key);
      const row = h(
        "tr",
        { "data-key": key },
        h("th", { scope: "row" }, written(group.group)),
        h("td", {}, group.state),
        h("td", { class: "number" }, number(group.members)),
        h("td", { class: `number ${group.lag > 100 ? "behind" : ""}` }, number(group.lag)),
        h(
          "td",
          {},
          opener(
            key,
            isOpen,
            t(isOpen ? "event.hide" : "event.show"),
            `${t(isOpen ? "event.hide" : "event.show")}: ${group.group}`,
          ),
        ),
      );
      return isOpen
        ? [row, h("tr", { "data-key": `${key} open` }, h("td", { colspan: "5" }, partitions(group.partitions)))]
        : [row];
    }),
    { note: t("streams.groups.what") },
  );
}

function partitions(all) {
  return h(
    "ul",
    { class: "partitions" },
    all.map((each) =>
      h(
        "li",
        {},
        h("span", {}, `${each.topic} ${each.partition}`),
        h("strong", { class: each.lag > 0 ? "busy" : null }, number(each.lag)),
        h("small", {}, `${number(each.offset)} / ${number(each.end)}`),
      ),
    ),
  );
}

function rejected(all, older, opened) {
  if (!all.length) return h("p", { class: "nothing" }, t("streams.rejections.none"));
  return [
    h(
      "ol",
      { class: "rejections" },
      all.map((each) => rejection(each, opened)),
    ),
    older !== null && h("button", { type: "button", "data-older": true }, t("streams.rejections.more")),
  ];
}

function rejection(each, opened) {
  const key = `rejection ${each.seq}`;
  const isOpen = opened.has(key);
  return h(
    "li",
    { "data-key": key, class: "rejection" },
    h(
      "div",
      { class: "line" },
      h("span", { class: "at" }, when(each.at)),
      h("code", { class: "reason" }, each.reason),
      h("span", { class: "place" }, `${each.source_topic}/${each.partition}/${each.offset}`),
      opener(
        key,
        isOpen,
        t("streams.original"),
        `${t("streams.original")}: ${each.source_topic}/${each.partition}/${each.offset}`,
      ),
    ),
    words(each.detail, `${key} detail`, opened, "why"),
    isOpen && original(each.original),
  );
}

function original(found) {
  if (!found) return h("p", { class: "nothing" }, t("streams.original.none"));
  const lines = (found.headers ?? []).map(([name, value]) => `${name}: ${value ?? ""}`);
  const text = (content) =>
    h("pre", { tabindex: "0", role: "region", "aria-label": t("streams.original") }, h("bdi", {}, content));
  return h(
    "div",
    { class: "detail" },
    h("p", { class: "key" }, t("streams.key"), " ", h("code", {}, written(found.key ?? t("none")))),
    lines.length > 0 && text(lines.join("\n")),
    text(pretty(found.value ?? "")),
  );
}

function pretty(value) {
  try {
    return JSON.stringify(JSON.parse(value), null, 2);
  } catch {
    return value;
  }
}
