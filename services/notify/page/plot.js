// Coverage over time, drawn by us: a row for each need on one axis of time, and what was decided when.

import { svg } from "./dom.js";
import { number, t } from "./strings.js";
import { clock, nowMs, short } from "./time.js";

const ROW = 46;
const HEAD = 40;
const FOOT = 26;
const EDGE = 6;
const DAY_MS = 86_400_000;

/** The plot, so wide (px). `view`: needs, coverage_over_time, raised_at, ballots, mobilization, status, changed_at. */
export function coveragePlot(view, width) {
  const points = view.coverage_over_time;
  const first = Math.min(Date.parse(view.raised_at), ...points.map((point) => Date.parse(point.at)));
  const isOver = view.status === "closed" || view.status === "cancelled";
  const last = Math.max(
    first + 1_000,
    isOver ? Date.parse(view.changed_at) : nowMs(),
    ...points.map((point) => Date.parse(point.at)),
  );
  const label = Math.min(190, Math.max(96, width * 0.24));
  const x = (ms) => label + ((ms - first) / (last - first)) * (width - label - EDGE);
  const height = HEAD + view.needs.length * ROW + FOOT;
  return svg(
    "svg",
    {
      class: "plot",
      width,
      height,
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": t("request.plot.what"),
    },
    svg("title", {}, t("request.plot")),
    axis(first, last, x, height),
    view.needs.map((need, place) => row(need, HEAD + place * ROW, points, { first, last, x, label, width })),
    marks(view, { first, last, x, height, width }),
  );
}

function row(need, top, points, { first, last, x, label, width }) {
  const base = top + ROW - 8;
  const y = (share) => base - share * (ROW - 18);
  const area = (name) => {
    let path = `M${x(first)} ${base}`;
    let level = base;
    for (const point of points) {
      const at = Date.parse(point.at);
      const share = Math.min(1, (point[name]?.[need.need_id] ?? 0) / need.quantity);
      path += `H${x(at).toFixed(1)}V${y(share).toFixed(1)}`;
      level = y(share);
    }
    return `${path}H${x(last).toFixed(1)}V${base}Z`;
  };
  return svg(
    "g",
    {},
    svg(
      "title",
      {},
      t("request.plot.one", {
        need: need.need_id,
        covered: number(need.covered),
        requested: number(need.quantity),
        on_time: number(need.on_time),
      }),
    ),
    svg("rect", { class: "ground", x: label, y: y(1), width: Math.max(0, width - label - EDGE), height: base - y(1) }),
    svg("path", { class: "covered", d: area("covered") }),
    svg("path", { class: "on-time", d: area("on_time") }),
    svg("text", { class: "name", x: 0, y: base - 13 }, `${need.need_id} ${need.capability}`.slice(0, 18)),
    svg(
      "text",
      { class: "amount", x: 0, y: base },
      t("card.coverage.of", { covered: number(need.covered), requested: number(need.quantity) }),
    ),
  );
}

function axis(first, last, x, height) {
  const format = last - first > DAY_MS ? short : clock;
  return [0, 1 / 3, 2 / 3, 1].map((share, place) => {
    const at = first + share * (last - first);
    return svg(
      "g",
      { class: "tick" },
      svg("line", { x1: x(at), x2: x(at), y1: HEAD - 4, y2: height - FOOT }),
      (place === 0 || place === 3 || x(last) - x(first) > 420) &&
        svg(
          "text",
          { x: x(at), y: height - 8, "text-anchor": place === 0 ? "start" : place === 3 ? "end" : "middle" },
          format(at),
        ),
    );
  });
}

function marks(view, { first, last, x, height, width }) {
  const found = [];
  for (const ballot of view.ballots) {
    found.push(["opened", ballot.opened_at]);
    if (ballot.decided_at) found.push(["decided", ballot.decided_at]);
  }
  if (view.mobilization) found.push(["authorized", view.mobilization.authorized_at]);
  const free = [-Infinity, -Infinity]; // words lie in two rows; where both are taken only the line is drawn
  return found
    .map(([kind, instant]) => [kind, Date.parse(instant)])
    .filter(([, at]) => at >= first && at <= last)
    .sort((a, b) => a[1] - b[1])
    .map(([kind, at]) => {
      const place = x(at);
      const atEnd = place > width - 70;
      const line = free.findIndex((from) => place >= from);
      if (line >= 0) free[line] = place + 72;
      const where = { x: place + (atEnd ? -4 : 4), y: 12 + 14 * line, "text-anchor": atEnd ? "end" : "start" };
      return svg(
        "g",
        { class: `mark ${kind}` },
        svg("line", { x1: place, x2: place, y1: 4, y2: height - FOOT }),
        line >= 0 && svg("text", where, t(`plot.${kind}`)),
      );
    });
}
