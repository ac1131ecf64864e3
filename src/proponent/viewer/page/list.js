/** The list of queries: only the rows in sight are in the page, however many there are. */

import { el, show } from "./dom.js";

const ROW = 68; // pixels; style.css has the same
const SPARE = 6;

/**
 * A list box over any number of items.
 *
 * element: scrolls, and holds the focus.  draw: (item, node) fills an option.  choose: called with the
 * item that becomes selected.  Returns `{set, select}`.
 */
export function virtualList(element, draw, choose) {
  const list = { element, draw, choose, items: [], selected: -1, nodes: new Map(), waiting: false };
  list.space = el("div", { role: "presentation", class: "space" });
  show(element, list.space);
  element.addEventListener("scroll", () => soon(list), { passive: true });
  element.addEventListener("keydown", (event) => onKey(list, event));
  list.space.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) choose(list.items[Number(option.dataset.at)], "pointer");
  });
  new ResizeObserver(() => soon(list)).observe(element);
  return {
    set: (items) => setItems(list, items),
    select: (item, reveal) => select(list, list.items.indexOf(item), reveal),
  };
}

function setItems(list, items) {
  list.items = items;
  list.selected = -1;
  list.space.style.height = `${items.length * ROW}px`;
  list.element.scrollTop = 0;
  for (const node of list.nodes.values()) node.remove();
  list.nodes.clear();
  paint(list);
}

function soon(list) {
  if (list.waiting) return;
  list.waiting = true;
  requestAnimationFrame(() => {
    list.waiting = false;
    paint(list);
  });
}

function paint(list) {
  const { element, items, nodes } = list;
  const first = Math.max(0, Math.floor(element.scrollTop / ROW) - SPARE);
  const last = Math.min(items.length, Math.ceil((element.scrollTop + element.clientHeight) / ROW) + SPARE);
  const free = [];
  for (const [at, node] of nodes) {
    if (at < first || at >= last) {
      free.push(node);
      nodes.delete(at);
    }
  }
  const missing = [];
  for (let at = first; at < last; at += 1) if (!nodes.has(at)) missing.push(at);
  for (const at of missing) nodes.set(at, placed(list, free.pop() ?? el("div", { role: "option", class: "option" }), at));
  for (const node of free) node.remove();
  // screen readers follow the order in the page, so reused rows are put in the order of the list
  if (missing.length) list.space.append(...[...nodes.keys()].sort((a, b) => a - b).map((at) => nodes.get(at)));
  mark(list);
}

function placed(list, node, at) {
  node.id = `query-${at}`;
  node.dataset.at = at;
  node.setAttribute("aria-setsize", list.items.length);
  node.setAttribute("aria-posinset", at + 1);
  node.style.transform = `translateY(${at * ROW}px)`;
  list.draw(list.items[at], node);
  return node;
}

function mark(list) {
  for (const [at, node] of list.nodes) node.setAttribute("aria-selected", String(at === list.selected));
  if (list.nodes.has(list.selected)) list.element.setAttribute("aria-activedescendant", `query-${list.selected}`);
  else list.element.removeAttribute("aria-activedescendant");
}

function select(list, at, reveal) {
  list.selected = at;
  if (reveal && at >= 0) {
    const { element } = list;
    const [above, below] = [element.scrollTop - at * ROW, (at + 1) * ROW - element.scrollTop - element.clientHeight];
    // a step scrolls by at most a row; an item far away is scrolled to the middle
    if (Math.max(above, below) > ROW) element.scrollTop = (at + 0.5) * ROW - element.clientHeight / 2;
    else if (above > 0) element.scrollTop -= above;
    else if (below > 0) element.scrollTop += below;
  }
  paint(list);
}

function move(list, to) {
  if (!list.items.length) return;
  const at = Math.max(0, Math.min(list.items.length - 1, to));
  select(list, at, true);
  list.choose(list.items[at], "keys");
}

function onKey(list, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const page = Math.max(1, Math.floor(list.element.clientHeight / ROW) - 1);
  const to = {
    ArrowDown: list.selected + 1,
    ArrowUp: list.selected - 1,
    PageDown: list.selected + page,
    PageUp: list.selected - page,
    Home: 0,
    End: list.items.length - 1,
  }[event.key];
  if (to !== undefined) {
    event.preventDefault();
    move(list, to);
  } else if (event.key === "Enter" && list.selected >= 0) {
    event.preventDefault();
    list.choose(list.items[list.selected], "enter");
  }
}
