/**
 * The panel at the side: tabs, of which one is shown.
 * @module
 */

const tabs = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("[data-side]")]);
/** @type {Map<string, (shown: boolean) => void>} */
const watchers = new Map();

/** @param {string} name @param {(shown: boolean) => void} watcher told at once, and whenever it is shown or hidden */
export function watchSide(name, watcher) {
  watchers.set(name, watcher);
  watcher(shownSide() === name);
}

export function shownSide() {
  return tabs.find((tab) => tab.getAttribute("aria-selected") === "true")?.dataset.side ?? "";
}

/** @param {string} name */
export function showSide(name) {
  for (const tab of tabs) {
    const shown = tab.dataset.side === name;
    tab.setAttribute("aria-selected", String(shown));
    tab.tabIndex = shown ? 0 : -1;
    /** @type {HTMLElement} */ (document.getElementById(tab.dataset.side ?? "")).hidden = !shown;
    watchers.get(tab.dataset.side ?? "")?.(shown);
  }
}

/** Only some servers have it. @param {string} name */
export function offerSide(name) {
  for (const tab of tabs) if (tab.dataset.side === name) tab.hidden = false;
}

/** @param {string} name @param {number} count @param {string} what is counted @param {boolean} [more] there are than that */
export function showSideCount(name, count, what, more = false) {
  const badge = /** @type {HTMLElement} */ (tabs.find((tab) => tab.dataset.side === name)?.querySelector(".badge"));
  badge.hidden = !count;
  badge.textContent = `${count}${more ? "+" : ""}`;
  badge.title = `${badge.textContent} ${what}`;
}

for (const tab of tabs) {
  tab.addEventListener("click", () => showSide(tab.dataset.side ?? ""));
  tab.addEventListener("keydown", (event) => {
    const offered = tabs.filter(({ hidden }) => !hidden);
    const at = offered.indexOf(tab);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: offered.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = offered[(to + offered.length) % offered.length];
    showSide(next.dataset.side ?? "");
    next.focus();
  });
}
