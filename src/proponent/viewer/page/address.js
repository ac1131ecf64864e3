/** The address holds what is shown: after the `#`, so that it works from disk and no server sees it. */

/** What is not in the address is as here; what is as here is not in the address. */
export const DEFAULTS = Object.freeze({
  view: "queries", // queries, overview or live
  q: "", // key of the query
  s: "", // search
  within: "", // "passages": search those too
  where: "", // filter in words
  is: "", // values of fields, as a query string
  rel: "", // relation
  model: "", // right or wrong
  gold: "", // found, top or missed
  cat: "", // what the top proponent holds
  sort: "", // metric; file order where empty
  up: "", // "1": smallest first
  files: "", // names of the files that are shown, with commas between; the first two where empty
  url: "", // a file to load by its address, once that is asked for
  role: "", // "opponents": those, in a comparison
  tokens: "", // "1": shade tokens
  prompt: "", // of the live view, like the rest
  target: "",
  method: "",
  mix: "",
  k: "",
});

/** The state that an address's hash holds; what it does not know is left out. */
export function readAddress(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const state = { ...DEFAULTS };
  for (const name of Object.keys(DEFAULTS)) if (given.has(name)) state[name] = given.get(name);
  return state;
}

/** The hash of a state. */
export function addressOf(state) {
  const parts = Object.keys(DEFAULTS).filter((name) => state[name] !== DEFAULTS[name]);
  return `#${new URLSearchParams(parts.map((name) => [name, state[name]]))}`;
}

/** Put a state into the address.  step: whether the browser's "back" returns to what was there. */
export function writeAddress(state, step) {
  const hash = addressOf(state);
  if (hash === (location.hash || "#")) return;
  history[step ? "pushState" : "replaceState"](null, "", hash === "#" ? location.pathname + location.search : hash);
}
