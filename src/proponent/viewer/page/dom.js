/** Elements without markup: whatever text a file holds reaches the page as text nodes only. */

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.setAttribute("class", value);
    else if (value === true) node.setAttribute(name, "");
    else node.setAttribute(name, String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/**
 * An HTML element.
 *
 * attributes: null, undefined and false are left out, true is an empty attribute, `onclick` and its
 * like are listeners.  children: nodes, texts, lists of them; null and false are left out.
 */
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Replace all that an element holds. */
export function show(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== false));
}

/** A number in the reader's own way of writing, with at most so many digits after the point. */
export function plain(value, digits = 0) {
  return value.toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A count with its noun: `1 query`, `1,200 queries`. */
export function counted(count, one, many = `${one}s`) {
  return `${plain(count)} ${count === 1 ? one : many}`;
}

/** A score with four digits after the point, fewer for large ones; a dash for none. */
export function scored(score) {
  if (!Number.isFinite(score)) return "–";
  const size = Math.abs(score);
  const text = size > 0 && size < 0.00005 ? size.toExponential(1) : size.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 4);
  return score < 0 ? `−${text}` : text;
}
