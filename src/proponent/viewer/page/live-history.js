/** The queries that were traced, newest first, kept in this browser with their rows. */

const MOST = 40;

const same = (entry, { prompt, target }) => entry.prompt === prompt && entry.target === target;

/** The history of one run.  key: identifies the run. */
export function newHistory(key) {
  const name = `proponent-live:${key}`;
  let entries = read(name);

  function keep() {
    // where the browser's storage is full or switched off, fewer entries or none are kept
    for (let count = entries.length; count >= 0; count = count ? Math.floor(count / 2) : -1) {
      try {
        localStorage.setItem(name, JSON.stringify(entries.slice(0, count)));
        return;
      } catch {
        continue;
      }
    }
  }

  return {
    /** All entries: `{prompt, target, id, row, wanted}`. */
    all: () => entries,
    /** The entry of a prompt and a target, or undefined. */
    find: (query) => entries.find((entry) => same(entry, query)),
    /** Put an entry first, or in the place that its query has. */
    put(entry, first) {
      const place = first ? 0 : Math.max(0, entries.findIndex((other) => same(other, entry)));
      const rest = entries.filter((other) => !same(other, entry));
      entries = [...rest.slice(0, place), entry, ...rest.slice(place)].slice(0, MOST);
      keep();
    },
    clear() {
      entries = [];
      keep();
    },
  };
}

function read(name) {
  try {
    const found = JSON.parse(localStorage.getItem(name) ?? "[]");
    return Array.isArray(found) ? found.filter((entry) => typeof entry?.prompt === "string" && entry.row) : [];
  } catch {
    return [];
  }
}
