// The frame of the page: who reads, which view, and how the connection stands. A view more is a line more in `VIEWS`.

import { get } from "./api.js";
import { h, svg } from "./dom.js";
import { now } from "./now.js";
import { request } from "./request.js";
import { decoded, forget, keep, takeFromAddress, token } from "./session.js";
import { streams } from "./streams.js";
import { t, word } from "./strings.js";
import { tick } from "./time.js";

const VIEWS = [
  { path: /^\/$/, show: now, nav: "now", href: "#/" },
  { path: /^\/requests\/([^/]+)$/, show: request, nav: "now" },
  { path: /^\/streams$/, show: streams, nav: "streams", href: "#/streams", roles: ["operator", "secretariat"] },
];
const isFor = (view, reader) => !view.roles || view.roles.includes(reader.role);

let me = null;
let stop = () => {};
let again = null;

const banner = h("p", { class: "banner", hidden: true });
const connection = h("p", { class: "connection", role: "status" });
const who = h("div", { class: "who" });
const nav = h(
  "nav",
  { "aria-label": t("nav.label"), hidden: true },
  h(
    "ul",
    {},
    VIEWS.filter((view) => view.href).map((view) =>
      h("li", {}, h("a", { href: view.href, "data-nav": view.nav }, t(`nav.${view.nav}`))),
    ),
  ),
);
const main = h("main", { id: "content", tabindex: "-1" });

const frame = {
  get me() {
    return me;
  },
  /** What stands in the window's title; what is not real says so, there and above everything. */
  title(text, mode) {
    const real = mode === "actual";
    const title = `${real ? "" : `${word("mode", mode).toUpperCase()} · `}${text} · ${t("product")}`;
    if (document.title !== title) document.title = title;
    document.body.dataset.mode = mode;
    banner.hidden = real;
    banner.className = `banner ${mode}`;
    const said = real ? "" : t(`mode.banner.${mode}`);
    if (banner.textContent !== said) banner.textContent = said;
  },
  /** "live", "lost" or "connecting". */
  connection(state) {
    if (connection.dataset.state === state) return;
    connection.dataset.state = state;
    connection.textContent = t(`connection.${state}`);
  },
  /** Something could not be read. Nobody answers: it is tried again until somebody does. 401: sign in anew. */
  failed(problem, retry = null) {
    if (problem.status === 401) return signIn(t("signin.refused"));
    if (problem.status === 0 || problem.status >= 500) {
      frame.connection("lost");
      if (retry) again = setTimeout(retry, 1_000);
      return undefined;
    }
    connection.dataset.state = "refused";
    connection.textContent = t("connection.refused", { why: problem.message });
    return undefined;
  },
};

function leave() {
  stop();
  stop = () => {};
  clearTimeout(again);
  main.replaceChildren();
  frame.title(t("product.what"), "actual");
}

function signIn(said = "") {
  leave();
  forget();
  me = null;
  who.replaceChildren();
  nav.hidden = true;
  connection.hidden = true;
  const field = h("input", {
    id: "token",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    "aria-describedby": "said",
  });
  const form = h(
    "form",
    { class: "signin" },
    h("h1", {}, t("signin.title")),
    h("p", {}, t("signin.what")),
    h("label", { for: "token" }, t("signin.token")),
    field,
    h("p", { id: "said", class: "said", role: "alert" }, said),
    h("button", { type: "submit", class: "main" }, t("signin.go")),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    keep(field.value.trim());
    begin();
  });
  main.append(form);
  frame.title(t("signin.title"), "actual");
  field.focus();
}

/** Who the token is, then the view. */
async function begin() {
  if (token() === null) return signIn();
  connection.hidden = false;
  frame.connection("connecting");
  try {
    me = await get("/me");
  } catch (error) {
    return frame.failed(error, begin);
  }
  const out = h("button", { type: "button", class: "quiet" }, t("signin.out"));
  out.addEventListener("click", () => signIn());
  who.replaceChildren(
    h("span", {}, h("strong", {}, me.state ?? word("role", me.role)), me.state ? ` ${word("role", me.role)}` : ""),
    out,
  );
  for (const link of nav.querySelectorAll("a")) {
    link.parentElement.hidden = !isFor(
      VIEWS.find((view) => view.href === link.getAttribute("href")),
      me,
    );
  }
  nav.hidden = false;
  return show();
}

function show() {
  if (me === null) return;
  leave();
  const path = location.hash.slice(1) || "/";
  const view = VIEWS.find((each) => each.path.test(path) && isFor(each, me)) ?? VIEWS[0];
  for (const link of nav.querySelectorAll("a")) {
    if (link.dataset.nav === view.nav) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  stop = view.show(main, frame, ...(path.match(view.path)?.slice(1).map(decoded) ?? []));
}

function logo() {
  return svg(
    "svg",
    { viewBox: "0 0 32 32", "aria-hidden": "true", class: "logo" },
    svg("path", { class: "shield", d: "M16 2 28 6v10c0 7-5 12-12 14C9 28 4 23 4 16V6z" }),
    svg("path", { class: "moon", d: "M16 7.5a8 8 0 1 0 5.2 14.1 6.6 6.6 0 1 1 0-12.2A8 8 0 0 0 16 7.5z" }),
    svg("circle", { class: "moon", cx: 20.6, cy: 15.6, r: 2.3 }),
  );
}

const skip = h("a", { class: "skip", href: "#content" }, t("skip"));
skip.addEventListener("click", (event) => {
  event.preventDefault(); // the fragment is the view's
  main.focus();
});
const bar = h(
  "div",
  { class: "frame" },
  h("a", { class: "brand", href: "#/" }, logo(), t("product")),
  nav,
  connection,
  who,
);
document.body.append(skip, h("header", { class: "top" }, banner, bar), main);
takeFromAddress();
window.addEventListener("hashchange", () => {
  takeFromAddress();
  if (me === null) begin();
  else {
    show();
    window.scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
});
setInterval(tick, 1_000);
begin();
