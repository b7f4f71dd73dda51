// Server-sent events through fetch, which can show a token where EventSource cannot. A lost connection is made anew.

import { authorization, Problem, problemOf } from "./api.js";

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 4_000;
const SILENCE_MS = 40_000; // the server says something every 15 s

/**
 * Follows a stream until the function that it returns is called.
 * `after`: the id to go on behind, or null. `onEvent(data, id)`: each event. `onState("live" | "lost")`: how it stands.
 * `onRefused(problem)`: the server will not have it (4xx), and it is over.
 */
export function follow(path, { after = null, onEvent, onState, onRefused }) {
  const stopping = new AbortController();
  run(path, { lastId: after, onEvent, onState, stopping }).catch((error) => {
    if (!stopping.signal.aborted) onRefused(error);
  });
  return () => stopping.abort();
}

async function run(path, feed) {
  let wait = FIRST_WAIT_MS;
  while (!feed.stopping.signal.aborted) {
    try {
      await connect(path, feed, () => {
        wait = FIRST_WAIT_MS;
        feed.onState("live");
      });
    } catch (error) {
      if (error instanceof Problem && error.status >= 400 && error.status < 500) throw error;
    }
    if (feed.stopping.signal.aborted) return;
    feed.onState("lost");
    await pause(wait * (0.75 + Math.random() / 2), feed.stopping.signal);
    wait = Math.min(2 * wait, LONGEST_WAIT_MS);
  }
}

/** One connection, until it ends. */
async function connect(path, feed, onOpen) {
  const ending = new AbortController();
  const end = () => ending.abort();
  feed.stopping.signal.addEventListener("abort", end, { once: true });
  let silence = setTimeout(end, SILENCE_MS);
  try {
    const headers = { Accept: "text/event-stream", ...authorization() };
    if (feed.lastId !== null) headers["Last-Event-ID"] = String(feed.lastId);
    const answer = await fetch(path, { headers, cache: "no-store", signal: ending.signal });
    if (!answer.ok) throw await problemOf(answer);
    onOpen();
    const parse = parser((data, id) => {
      if (id !== null) feed.lastId = id;
      feed.onEvent(data, id);
    });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(end, SILENCE_MS);
      parse(value);
    }
  } finally {
    clearTimeout(silence);
    feed.stopping.signal.removeEventListener("abort", end);
    end();
  }
}

/** Takes text as it comes and tells whole events (HTML standard, 9.2.6: fields `data` and `id`; the rest is left out). */
export function parser(tell) {
  let rest = "";
  let data = [];
  let id = null;
  return (text) => {
    rest += text;
    // A line may end in CR LF with the LF still to come: such an end is looked at with what comes next.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.length) tell(data.join("\n"), id);
        data = [];
        continue;
      }
      const [, field, value] = /^([^:]*):? ?([^]*)$/.exec(line);
      if (field === "data") data.push(value);
      else if (field === "id") id = value;
    }
  };
}

function pause(ms, signal) {
  return new Promise((done) => {
    const over = () => {
      clearTimeout(timer);
      window.removeEventListener("online", over);
      signal.removeEventListener("abort", over);
      done();
    };
    const timer = setTimeout(over, ms);
    window.addEventListener("online", over);
    signal.addEventListener("abort", over);
  });
}
