/** A passage's text: marked words, shaded tokens, folded around what matters, and only ever text. */

import { el, plain, show } from "./dom.js";
import { marksOf } from "./words.js";

const LONG = 420;
const WINDOW = 320;
const WEIGHT = { target: 3, said: 2, subject: 2, prompt: 1 };
/** Characters that would reorder or hide the text around them are shown by name instead. */
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/gu;
const NAMES = {
  "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF", "\u202d": "LRO", "\u202e": "RLO",
  "\u2066": "LRI", "\u2067": "RLI", "\u2068": "FSI", "\u2069": "PDI",
};

function codePoint(character) {
  return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/** Text as nodes; a control character is replaced by its visible name, so that it has no effect. */
export function textNodes(text) {
  const nodes = [];
  let at = 0;
  for (const { 0: found, index } of text.matchAll(CONTROLS)) {
    if (index > at) nodes.push(text.slice(at, index));
    nodes.push(el("span", { class: "control", title: `control character ${codePoint(found)}` }, NAMES[found] ?? codePoint(found)));
    at = index + found.length;
  }
  if (at < text.length) nodes.push(text.slice(at));
  return nodes;
}

/**
 * Start and end of the part of a long text to show first: where most of what is looked for is.
 *
 * among: a span `{start, end}` that the part should begin in, or null.
 */
export function bestWindow(text, marks, among = null) {
  if (text.length <= LONG) return [0, text.length];
  let best = { start: among?.start ?? 0, value: 0 };
  for (const [n, first] of marks.entries()) {
    if (among && (first.start < among.start || first.end > among.end)) continue;
    const seen = new Set();
    let value = 0;
    for (let m = n; m < marks.length && marks[m].end <= first.start + WINDOW; m += 1) {
      value += WEIGHT[marks[m].role] * (seen.has(marks[m].role) ? 0.25 : 2);
      seen.add(marks[m].role);
    }
    if (value > best.value) best = { start: first.start, value };
  }
  const start = Math.max(0, Math.min(best.start - 60, text.length - WINDOW));
  return [atWord(text, start, 1), atWord(text, Math.min(text.length, start + WINDOW), -1)];
}

/** The nearest gap between words in a direction, within a word's length. */
function atWord(text, position, step) {
  if (position === 0 || position === text.length) return position;
  for (let n = 0; n < 24; n += 1) {
    const at = position + n * step;
    if (at > 0 && at < text.length && /\s/.test(text[at])) return step > 0 ? at + 1 : at;
  }
  return position;
}

/** Where a part of a text is in it, as `{start, end}`, whatever white space is between its words; null where it is not. */
export function spanOf(text, part) {
  const words = String(part ?? "").split(/\s+/).filter(Boolean);
  if (!words.length) return null;
  const found = new RegExp(words.map((word) => word.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("\\s+"), "u").exec(text);
  return found && { start: found.index, end: found.index + found[0].length };
}

/** Token spans `{start, end, value}` in [-1, 1], from pairs of text and value; null where they do not fit. */
export function shadesOf(text, tokens) {
  if (!Array.isArray(tokens)) return null;
  const visible = tokens.filter(([token]) => token.trim()); // a special prefix is no measure for the others
  const largest = Math.max(...visible.map(([, value]) => Math.abs(value)), Number.MIN_VALUE);
  const shades = [];
  let at = 0;
  for (const [token, value] of tokens) {
    const start = text.indexOf(token, at);
    if (start < 0 || text.slice(at, start).trim()) return null;
    at = start + token.length;
    if (token) shades.push({ start, end: at, value: Math.max(-1, Math.min(1, value / largest)) });
  }
  return shades;
}

function shadedNode(children, shade) {
  if (!shade) return children;
  const node = el("span", { class: shade.value < 0 ? "shade against" : "shade for" }, children);
  node.style.setProperty("--shade", `${Math.round(Math.abs(shade.value) * 70)}%`);
  return [node];
}

/** A piece of the best window: brackets at its ends say so without colour. */
function inWindow(nodes, from, to, window) {
  if (!window || to <= window.start || from >= window.end) return nodes;
  const ends = `${from === window.start ? " first" : ""}${to === window.end ? " last" : ""}`;
  return [el("span", { class: `window${ends}` }, nodes)];
}

/** A part of a text as nodes, cut wherever a mark, a token or the best window begins or ends. */
function pieces(text, start, end, { marks, shades, window }) {
  const cuts = new Set([start, end]);
  for (const span of [...marks, ...(shades ?? []), ...(window ? [window] : [])]) {
    for (const at of [span.start, span.end]) if (at > start && at < end) cuts.add(at);
  }
  const edges = [...cuts].sort((one, other) => one - other);
  const covering = (spans, at) => spans?.find((span) => span.start <= at && at < span.end);
  return edges.slice(0, -1).flatMap((at, n) => {
    const nodes = shadedNode(textNodes(text.slice(at, edges[n + 1])), covering(shades, at));
    const mark = covering(marks, at);
    return inWindow(mark ? [el("mark", { class: mark.role }, nodes)] : nodes, at, edges[n + 1], window);
  });
}

/** Only the marks and shades that touch a part, so that long texts stay quick. */
function touching(spans, start, end) {
  return spans?.filter((span) => span.end > start && span.start < end) ?? null;
}

function part(text, start, end, { marks, shades, window }) {
  const near = { marks: touching(marks, start, end), shades: touching(shades, start, end), window };
  return [
    start > 0 ? el("span", { class: "cut" }, "… ") : null,
    ...pieces(text, start, end, near),
    end < text.length ? el("span", { class: "cut" }, " …") : null,
  ];
}

/**
 * A passage's text as an element.
 *
 * terms: from `termsOf`.  tokens: whether to shade tokens, where the passage has values for them.
 */
export function passageText(passage, terms, tokens = false) {
  const { text } = passage;
  const marks = marksOf(text, terms);
  const shades = tokens ? shadesOf(text, passage.tokens) : null;
  const window = spanOf(text, passage.window);
  const spans = { marks, shades, window };
  const [start, end] = bestWindow(text, marks, window);
  const body = el("p", { class: "text", dir: "auto" });
  show(body, part(text, start, end, spans));
  if (start === 0 && end === text.length) return body;
  let whole = false;
  const all = `Show all ${plain(text.length)} characters`;
  const fold = el("button", { type: "button", class: "fold", "aria-expanded": "false" }, all);
  fold.addEventListener("click", () => {
    whole = !whole;
    show(body, whole ? part(text, 0, text.length, spans) : part(text, start, end, spans));
    fold.setAttribute("aria-expanded", String(whole));
    fold.textContent = whole ? "Fold" : all;
  });
  return el("div", {}, body, fold);
}
