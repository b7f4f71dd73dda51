// Instants and spans, by the server's clock, ticking.

import { h } from "./dom.js";
import { locale, t } from "./strings.js";

const SOON_MS = 3_600_000;
const TRUSTED_MS = 2_000; // the `Date` header has whole seconds, and the way takes time

let aheadMs = 0;

/** How far this machine's clock is off: late is what is late by the system's clock. */
export function noteServerTime(header) {
  const told = Date.parse(header ?? "");
  if (Number.isNaN(told)) return;
  const off = told + 500 - Date.now();
  aheadMs = Math.abs(off) > TRUSTED_MS ? off : 0;
}

/** Milliseconds since 1970 by the server's clock. */
export function nowMs() {
  return Date.now() + aheadMs;
}

/** How long since an instant, ticking. */
export function since(instant) {
  return ticking(instant, "since");
}

/** How long until an instant, or how late it is, ticking; loud once it is late. */
export function until(instant) {
  return ticking(instant, "until");
}

function ticking(instant, kind) {
  const element = h("time", { datetime: instant, "data-tick": kind, title: exact(instant) });
  show(element);
  return element;
}

function show(element) {
  const off = Date.parse(element.dateTime) - nowMs();
  const isUntil = element.dataset.tick === "until";
  const late = isUntil && off < 0;
  const left = () => t(late ? "late" : "left", { span: span(Math.abs(off)) });
  const text = isUntil ? left() : span(Math.max(0, -off));
  if (element.textContent !== text) element.textContent = text;
  element.classList.toggle("late", late);
  element.classList.toggle("soon", isUntil && !late && off < SOON_MS);
}

/** Whether an instant is past. */
export function isLate(instant) {
  return instant !== null && Date.parse(instant) < nowMs();
}

/** Once a second: whatever ticks is set right, and the line that it is the deadline of. */
export function tick() {
  for (const element of document.querySelectorAll("time[data-tick]")) {
    show(element);
    element.closest("[data-due]")?.classList.toggle("overdue", element.classList.contains("late"));
  }
}

const UNITS = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
].map(([unit, seconds]) => [new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "narrow" }), seconds]);

/** A span in its two largest units. */
export function span(ms) {
  let rest = Math.floor(ms / 1000);
  const first = UNITS.findIndex(([, seconds]) => rest >= seconds);
  if (first === -1) return UNITS.at(-1)[0].format(0);
  const parts = [];
  for (const [format, seconds] of UNITS.slice(first, first + 2)) {
    parts.push(format.format(Math.floor(rest / seconds)));
    rest %= seconds;
  }
  return parts.join(" ");
}

const EXACT = new Intl.DateTimeFormat(locale, {
  dateStyle: "medium",
  timeStyle: "medium",
  hourCycle: "h23",
  timeZone: "UTC",
});
const CLOCK = new Intl.DateTimeFormat(locale, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
  timeZone: "UTC",
});
const SHORT = new Intl.DateTimeFormat(locale, {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
  hourCycle: "h23",
  timeZone: "UTC",
});

/** An instant in full, UTC: states lie in five time zones. */
export function exact(instant) {
  return format(EXACT, instant, " UTC");
}

/** Its time of day. */
export function clock(instant) {
  return format(CLOCK, instant);
}

/** Day, hour and minute. */
export function short(instant) {
  return format(SHORT, instant);
}

function format(formatter, instant, behind = "") {
  const ms = typeof instant === "number" ? instant : Date.parse(instant ?? "");
  return Number.isNaN(ms) ? t("unknown") : formatter.format(ms) + behind;
}

/** An instant to read, with the exact one behind it. */
export function when(instant) {
  return instant ? h("time", { datetime: instant, title: exact(instant) }, short(instant)) : t("none");
}
