// Reading over HTTP: with the token, and problems as errors.

import { token } from "./session.js";
import { noteServerTime } from "./time.js";

/** What the server said against it (RFC 9457). `status` 0: nobody answered. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** What goes with every question. */
export function authorization() {
  return { Authorization: `Bearer ${token() ?? ""}` };
}

/** JSON from an address. Problem: whatever else came of it. */
export async function get(path, query = {}, signal = undefined) {
  return (await ask(withQuery(path, query), { signal })).json();
}

/** A question that changes something. */
export async function post(path) {
  await ask(path, { method: "POST" });
}

/** An address with those parameters that have a value. */
export function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: authorization() });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, error.message);
  }
  noteServerTime(answer.headers.get("date"));
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

/** The problem that an answer is. */
export async function problemOf(answer) {
  const said = await answer.json().catch(() => ({}));
  return new Problem(answer.status, String(said.detail ?? answer.statusText));
}
