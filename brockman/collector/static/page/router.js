/* The views and their places: `#people`, `#person=7`, `#group=Readers`. The first name is the view's. */

import { $ } from "./dom.js";

const views = new Map();
let current = null, isFirst = true, isIncomplete = false;

/** Add a view, shown for these names: `show(name, value, parameters)` and `hide()`. */
export function register(names, section, tab, view) {
  for (const name of names) views.set(name, { ...view, section, tab });
}

/** Return the fragment of a place. */
export function place(name, value = "", more = {}) {
  const parts = [[name, value], ...Object.entries(more).filter(([, text]) => text)];
  return `#${parts.map(([key, text]) => encodeURIComponent(key) + (text && `=${encodeURIComponent(text)}`)).join("&")}`;
}

/** Change the address of the present view without a step in the history. */
export function replacePlace(fragment) {
  history.replaceState(null, "", fragment);
}

export function title(text) {
  document.title = `${text} · FocusLab`;
}

export function follow() {
  const parameters = new URLSearchParams(location.hash.slice(1)), [first = ""] = parameters.keys();
  const name = views.has(first) ? first : "stream", view = views.get(name);
  const isOther = current?.section !== view.section;
  if (isOther) {
    current?.hide?.();
    for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== view.section;
    for (const link of document.querySelectorAll("nav a")) {
      if (link.hash === `#${view.tab}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }
  current = view;
  isIncomplete = false;
  view.show(name, parameters.get(name) || "", parameters);
  if (isOther && !isFirst) {
    scrollTo(0, 0);
    if (!document.activeElement?.closest("nav")) $(view.section).querySelector("h2[tabindex]").focus({ preventScroll: true });
  }
  isFirst = false;
}

/** Show the present view again when the collector is back, if it was away. */
export function retryLater(error) {
  isIncomplete ||= error instanceof TypeError;
}

export function retry() {
  if (isIncomplete) follow();
}

export const isShown = (section) => current?.section === section;
addEventListener("hashchange", follow);
