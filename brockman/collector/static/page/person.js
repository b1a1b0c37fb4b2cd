/* One person: ids, identities, attributes, and everything they did. */

import { get, words } from "./api.js";
import { $, element, fields, moveByArrows, number, plural, say, shown, time } from "./dom.js";
import { nameOf, notJoined, pendingWords } from "./people.js";
import { place, register, retryLater, title } from "./router.js";
import { summary } from "./trigger.js";

const PAGE = 50;
const dayName = new Intl.DateTimeFormat("en-GB", { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const state = { asked: {}, next: null, run: null, day: "" };

const list = (values) => element("ul", values.map((value) => element("li", value)), { class: "chips" });

function describe(person) {
  const found = [[person.actor_ids.length === 1 ? "id" : "ids", list(person.actor_ids)]];
  for (const [name, values] of Object.entries(person.identities)) found.push([name, list(values.map(shown))]);
  for (const [name, value] of Object.entries(person.attributes)) found.push([name, shown(value)]);
  found.push(["first seen", time(person.first_seen)], ["last seen", time(person.last_seen)], ["triggers", number.format(person.total)]);
  $("person-title").textContent = nameOf(person);
  $("person-fields").replaceChildren(...fields(found));
  $("person-warnings").replaceChildren(...notJoined(person.not_joined || []));
  title(nameOf(person).slice(0, 100));
}

/** Add triggers to the timeline, under the day of each; return the first link of what is new. */
function append(triggers) {
  let first = null;
  for (const trigger of triggers) {
    const moment = new Date(trigger.recorded_at), isReal = !isNaN(moment);
    const day = isReal ? dayName.format(moment) : trigger.recorded_at;
    if (day !== state.day) $("person-timeline").append(element("h4", day), element("ol", [], { class: "timeline" }));
    state.day = day;
    const values = summary(trigger);
    const when = element("time", isReal ? clock.format(moment) : "", { datetime: trigger.recorded_at, title: trigger.recorded_at });
    const link = element("a", [element("b", trigger.action), " ", trigger.object], { href: place("trigger", trigger.id) });
    const item = element("li", [when, element("div", [link, element("span", values, { class: "below", title: values })])]);
    $("person-timeline").lastElementChild.append(item);
    first ||= link;
  }
  return first;
}

async function load(isMore) {
  const run = state.run = {};
  try {
    if (!isMore) say("person-notice", "Loading …");
    const person = await get("person/", { ...state.asked, limit: PAGE, after: isMore ? state.next : null, order: "newest" });
    if (run !== state.run) return;
    if (!isMore) {
      $("person-timeline").replaceChildren();
      state.day = "";
      describe(person);
    }
    $("person-body").hidden = false;
    const first = append(person.triggers);
    if (isMore) first?.focus();
    state.next = person.next;
    $("person-more").hidden = person.next === null;
    say("person-notice", pendingWords(person.pending));
  } catch (error) {
    if (run !== state.run) return;
    say("person-notice", words(error));
    if (!isMore) retryLater(error);
  }
}

$("person-more").addEventListener("click", () => load(true));
moveByArrows($("person-timeline"));

register(["person", "identity"], "view-person", "people", {
  show(name, value) {
    state.asked = { [name === "person" ? "actor_id" : "identity"]: value };
    title("Person");
    $("person-title").textContent = value;
    $("person-body").hidden = true;
    $("person-more").hidden = true;
    $("person-warnings").replaceChildren();
    load(false);
  },
});
