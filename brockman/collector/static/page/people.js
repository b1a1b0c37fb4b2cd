/* The people: a list with a search, and what both lists of people share. */

import { get, words } from "./api.js";
import { $, cell, element, moveByArrows, number, openByRow, plural, say, shown, time } from "./dom.js";
import { place, register, replacePlace, retryLater, title } from "./router.js";

const PAGE = 50, NAMED = 3; // identities and attributes in a row
const state = { search: "", next: null, run: null };

/** Return the words for a person: an identity if there is one. */
export function nameOf({ identities, actor_ids }) {
  return shown(Object.values(identities).flat()[0] ?? actor_ids[0]);
}

function some(entries) {
  const texts = entries.map(([name, value]) => `${name}: ${shown(value)}`);
  return texts.slice(0, NAMED).join(" · ") + (texts.length > NAMED ? ` · and ${texts.length - NAMED} more` : "");
}

/** Return a row for each person of an answer. */
export function peopleRows(people) {
  return people.map((person) => {
    const link = element("a", nameOf(person), { href: place("person", person.actor_ids[0]), class: "name" });
    const ids = person.actors > 1 ? `${number.format(person.actors)} ids: ${person.actor_ids.join(", ")}` : person.actor_ids[0];
    const isNamed = ids !== nameOf(person), below = isNamed ? [element("span", ids, { class: "below" })] : [];
    const first = cell([link, ...below], isNamed ? `${nameOf(person)}\n${ids}` : ids);
    const last = element("td", time(person.last_seen));
    return element("tr", [first, cell(some(Object.entries(person.identities))), cell(some(Object.entries(person.attributes))),
      element("td", number.format(person.total), { class: "count", "data-label": person.total === 1 ? "trigger" : "triggers" }), last]);
  });
}

/** Return warnings about identities that join nobody. */
export function notJoined(found) {
  return found.map(({ name, value, actors }) => element("p", [
    element("strong", `${name}: ${shown(value)}`), ` joins nobody (${plural(actors, "id")}): it is a placeholder, or too many carry it.`,
  ], { class: "warning" }));
}

export function pendingWords(pending) {
  return pending ? `${plural(pending, "trigger")} not joined yet; it takes a moment.` : "";
}

async function load(isMore) {
  const run = state.run = {};
  try {
    if (!isMore) say("people-notice", state.search ? "Searching …" : "Loading …");
    const found = await get("people/", { search: state.search, limit: PAGE, after: isMore ? state.next : null });
    if (run !== state.run) return;
    const rows = peopleRows(found.people);
    if (isMore) $("people-rows").append(...rows);
    else $("people-rows").replaceChildren(...rows);
    if (isMore) rows[0]?.querySelector("a").focus();
    state.next = found.next;
    const isEmpty = !isMore && !found.people.length && !state.search;
    $("people-empty").hidden = !isEmpty;
    $("people-table").hidden = !$("people-rows").rows.length;
    $("people-more").hidden = found.next === null;
    $("people-warnings").replaceChildren(...notJoined(found.not_joined || []));
    const count = found.total === null ? "" : plural(found.total, "person", "people");
    const text = found.people.length || isMore || !state.search ? count : "Nobody matches.";
    say("people-notice", isEmpty ? pendingWords(found.pending) : [text, pendingWords(found.pending)].filter(Boolean).join(" · "));
  } catch (error) {
    if (run !== state.run) return;
    say("people-notice", words(error));
    if (!isMore) retryLater(error);
  }
}

let typing = 0;
$("people-search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    state.search = $("people-search").value.trim();
    replacePlace(place("people", "", { search: state.search }));
    load(false);
  }, 200);
});
$("people-more").addEventListener("click", () => load(true));
$("people-python").textContent = `client.record_trigger("cookie-7", "signed in", "shop", identities={"email": "ada@example.com"})
client.record_trigger("phone-9", "signed in", "app", identities={"email": "ada@example.com"})
`;
openByRow($("people-rows"));
moveByArrows($("people-rows"));

register(["people"], "view-people", "people", {
  show(name, value, parameters) {
    title("People");
    $("people-search").value = state.search = (parameters.get("search") || "").trim();
    load(false);
  },
});
