// Elements from data. Text becomes text nodes and nothing else; a view builds what should be there, `patch` makes it so.

const SVG = "http://www.w3.org/2000/svg";

/** An element: attributes (null, undefined and false are left out), then children: nodes, texts, lists of these. */
export function h(name, attributes = {}, ...children) {
  return made(document.createElement(name), attributes, children);
}

/** The same in SVG. */
export function svg(name, attributes = {}, ...children) {
  return made(document.createElementNS(SVG, name), attributes, children);
}

function made(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    // Through the object model: a style in an attribute is what the policy refuses.
    if (name === "vars") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child instanceof Node ? child : String(child));
  }
}

/** What somebody wrote: its direction and its marks stay its own. */
export function written(text) {
  return h("bdi", { class: "written", dir: "auto" }, text);
}

/** Makes `old` like `next`, keeping what is alike, so that focus, scrolling and selection stay where they are. */
export function patch(old, next) {
  if (old.nodeType !== next.nodeType || old.nodeName !== next.nodeName || keyOf(old) !== keyOf(next)) {
    old.replaceWith(next);
    return next;
  }
  if (old.isEqualNode(next)) return old; // the browser compares whole trees faster than we do
  if (old.nodeType === Node.TEXT_NODE) {
    old.data = next.data;
    return old;
  }
  for (const { name } of [...old.attributes])
    if (!next.hasAttribute(name) && name !== "style") old.removeAttribute(name);
  for (const { name, value } of next.attributes) {
    if (name === "style") continue;
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of next.style) {
    const value = next.style.getPropertyValue(name);
    if (old.style.getPropertyValue(name) !== value) old.style.setProperty(name, value);
  }
  patchChildren(old, next);
  return old;
}

/** Makes the children of `old` like those of `next`; those with a `data-key` are found again wherever they went. */
export function patchChildren(old, next) {
  const wanted = new Set([...next.childNodes].map(keyOf));
  const known = new Map();
  for (const child of [...old.childNodes]) {
    const key = keyOf(child);
    if (key === null) continue;
    if (wanted.has(key)) known.set(key, child);
    else child.remove();
  }
  let at = old.firstChild;
  for (const child of [...next.childNodes]) {
    const key = keyOf(child);
    if (key !== null && known.has(key)) {
      const match = known.get(key);
      if (match === at) at = at.nextSibling;
      else move(old, match, at);
      patch(match, child);
    } else if (key === null && at !== null && keyOf(at) === null) {
      const following = at.nextSibling;
      patch(at, child);
      at = following;
    } else {
      old.insertBefore(child, at);
    }
  }
  while (at !== null) {
    const following = at.nextSibling;
    at.remove();
    at = following;
  }
}

/** Moves a child; where the browser can, without taking the focus from it. */
export function move(parent, child, before) {
  if (parent.moveBefore && child.parentNode === parent) parent.moveBefore(child, before);
  else parent.insertBefore(child, before);
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;
}

/** Calls `paint` once before the next frame, however often it is asked to. */
export function eachFrame(paint) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      paint();
    });
  };
}
