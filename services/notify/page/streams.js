// Streams: how the system itself is, for those who run it. Read every two seconds while somebody looks.

import { get } from "./api.js";
import { eachFrame, h, patchChildren, written } from "./dom.js";
import { facts, Opened, opener, table, words } from "./parts.js";
import { count, megabytes, milliseconds, number, parts, t } from "./strings.js";
import { exact, when } from "./time.js";

const EVERY_MS = 2_000;
const REJECTIONS = 25;
const REJECTIONS_KEPT = 500;
const REJECTIONS_EVERY = 3; // their originals are large

/** Shows the streams in `root` until `stop`. */
export function streams(root, frame) {
  const opened = new Opened();
  const reading = new AbortController();
  let standing = null;
  let rejections = [];
  let older = null;
  let timer = null;
  let turn = 0;
  let rejectedBefore = 0;

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
      const now = await get("/streams", {}, reading.signal);
      // While Kafka is silent the groups stand as they were; that it is silent is said above them.
      standing = now.kafka.answers || !standing ? now : { ...now, groups: standing.groups };
      const counted = refused(standing.services);
      if (turn++ % REJECTIONS_EVERY === 0 || counted !== rejectedBefore) {
        join(await get("/rejections", { limit: REJECTIONS }, reading.signal));
      }
      rejectedBefore = counted;
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
    if (fresh.length === page.items.length || rejections.length > REJECTIONS_KEPT) {
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
    !standing.kafka.answers &&
      h(
        "p",
        { class: "loud", role: "alert" },
        parts("streams.kafka.silent", { why: written(standing.kafka.detail ?? "") }),
      ),
    section("streams.services", h("ul", { class: "tiles" }, standing.services.map(tile))),
    h(
      "div",
      { class: "pair" },
      section("streams.effect", effects(standing.services)),
      section("streams.groups", groups(standing, opened), leftOut(standing.kafka)),
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
  const known = (value, shown) => (value === null || value === undefined ? t("none") : shown(value));
  return h(
    "li",
    { "data-key": service.address, class: `tile ${health}` },
    h("h3", {}, service.service),
    h("p", { class: "health" }, t(`streams.${health}`)),
    service.detail && h("p", { class: "note" }, written(service.detail)),
    service.answers &&
      facts([
        [t("streams.published"), known(service.published_per_s, perSecond)],
        [t("streams.lag"), known(service.lag, number)],
        [t("streams.parked"), known(service.parked, number)],
        [t("streams.outbox"), known(service.outbox_age_s, (s) => milliseconds(1000 * s))],
        [t("streams.rejected"), number(refused([service]))],
        [t("streams.memory"), known(service.memory_bytes, megabytes)],
      ]),
  );
}

function refused(services) {
  return services.flatMap((service) => Object.values(service.rejected)).reduce((sum, n) => sum + n, 0);
}

function perSecond(n) {
  return t("streams.per-s", { n: number(n) });
}

function effects(services) {
  const rows = services.flatMap((service) => Object.keys(service.effect).map((topic) => [service, topic]));
  if (!rows.length) return h("p", { class: "nothing" }, t("streams.effect.none"));
  const figure = (ms) => h("td", { class: "number" }, ms === null || ms === undefined ? t("none") : milliseconds(ms));
  const columns = ["lately.p50", "lately.p99", "all.p50", "all.p99", "count"];
  return table(
    t("streams.effect"),
    [
      t("streams.service"),
      t("streams.topic"),
      ...columns.map((name) => ({ name: t(`streams.${name}`), number: true })),
    ],
    rows.map(([{ service, address, lately, effect }, topic]) =>
      h(
        "tr",
        { "data-key": `${address} ${topic}` },
        h("th", { scope: "row" }, service),
        h("td", {}, topic),
        figure(lately[topic]?.p50_ms),
        figure(lately[topic]?.p99_ms),
        figure(effect[topic].p50_ms),
        figure(effect[topic].p99_ms),
        h("td", { class: "number" }, number(effect[topic].count)),
      ),
    ),
    { note: t("streams.effect.what") },
  );
}

function lanes(services) {
  const numbers = [...new Set(services.flatMap((service) => service.lanes.map((lane) => lane.partition)))].sort(
    (a, b) => a - b,
  );
  if (!numbers.length) return h("p", { class: "nothing" }, t("none"));
  return table(
    t("streams.lanes"),
    [t("streams.service"), ...numbers.map((n) => ({ name: String(n), number: true }))],
    services
      .filter((service) => service.lanes.length)
      .map((service) => {
        const byNumber = new Map(service.lanes.map((lane) => [lane.partition, lane]));
        return h(
          "tr",
          { "data-key": service.address },
          h("th", { scope: "row" }, service.service),
          numbers.map((n) => laneCell(byNumber.get(n))),
        );
      }),
    { note: t("streams.lanes.what"), className: "lanes" },
  );
}

function laneCell(lane) {
  if (!lane) return h("td", { class: "number" }, t("none"));
  const lag = Object.values(lane.lag).reduce((sum, n) => sum + n, 0);
  const details = Object.entries(lane.lag)
    .map(([topic, n]) => `${topic}: ${n}`)
    .join("\n");
  return h(
    "td",
    { class: `number ${lag > 100 ? "behind" : lag > 0 ? "busy" : ""}`, title: details },
    h("strong", {}, number(lag)),
    h("small", {}, lane.rate_per_s === null ? t("none") : perSecond(lane.rate_per_s)),
  );
}

function groups({ groups: all, kafka }, opened) {
  if (!all.length) return h("p", { class: "nothing" }, t(kafka.answers ? "streams.groups.none" : "unknown"));
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
        h("td", { class: "number" }, group.members === null ? t("none") : number(group.members)),
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

function leftOut(kafka) {
  return kafka.left_out > 0 && h("p", { class: "note" }, count("streams.groups.left-out", kafka.left_out));
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
        h("strong", { class: each.lag > 0 ? "busy" : null }, each.lag === null ? t("none") : number(each.lag)),
        h("small", {}, `${number(each.offset)} / ${each.end === null ? t("none") : number(each.end)}`),
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
    h("pre", { tabindex: "0", role: "group", "aria-label": t("streams.original") }, h("bdi", {}, content));
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
