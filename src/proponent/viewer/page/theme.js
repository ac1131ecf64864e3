/** Light, dark, or as the system has it; kept for the next visit where the browser allows. */

const KEY = "proponent-theme";
const NEXT = { auto: "light", light: "dark", dark: "auto" };

/** A remembered setting; null where nothing is kept, or may not be. */
export function remembered(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Keep a setting for the next visit, where the browser allows it. */
export function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // a page that was opened from disk may have no storage: then it is not kept
  }
}

function apply(button, theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  button.dataset.theme = theme;
  button.setAttribute("aria-label", `Colours: ${theme}; change to ${NEXT[theme]}`);
  button.title = `Colours: ${theme}`;
}

/** Let a button go round light, dark and the system's own. */
export function mountTheme(button) {
  let theme = remembered(KEY);
  if (!(theme in NEXT)) theme = "auto";
  apply(button, theme);
  button.addEventListener("click", () => {
    theme = NEXT[theme];
    apply(button, theme);
    remember(KEY, theme);
  });
}
