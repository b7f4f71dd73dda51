// The reader's token: pasted, or brought in the address's fragment, which no server is sent. Gone with the tab.

const KEY = "qalqan.token";

/** The token, or null. */
export function token() {
  return sessionStorage.getItem(KEY);
}

/** What stands percent-encoded in an address; as it is, where it is none. */
export function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Signs in with a token. */
export function keep(value) {
  sessionStorage.setItem(KEY, value);
}

/** Signs out. */
export function forget() {
  sessionStorage.removeItem(KEY);
}

/** Takes `#token=...` (and `&/the/view` behind it) out of the address. */
export function takeFromAddress() {
  const found = /^#token=([^&]+)(?:&(.*))?$/.exec(location.hash);
  if (!found) return;
  keep(decoded(found[1]));
  history.replaceState(null, "", `#${found[2] || "/"}`);
}
