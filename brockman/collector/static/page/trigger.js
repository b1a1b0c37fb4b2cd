/* One trigger: its values in a line, and opened beside the stream. */

import { get, words } from "./api.js";
import { $, MAPPINGS, cell, element, fields, say, shortTime, shown } from "./dom.js";
import { place } from "./router.js";

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const MOST_CHARS = 300; // of the values in a row

export function summary(trigger) {
  const text = Object.keys(MAPPINGS).flatMap((name) => Object.entries(trigger[name] || {}))
    .map(([key, value]) => `${key}: ${shown(value)}`).join(" · ");
  return text.length > MOST_CHARS ? `${text.slice(0, MOST_CHARS)}…` : text;
}

export const personOf = (actor) => element("a", actor, { href: place("person", actor) });

/** Return links to the person of each value of an identity. */
export function identityLinks(name, value) {
  const links = [value].flat().map((one) => element("a", shown(one), { href: place("identity", `${name}:${shown(one)}`) }));
  return links.flatMap((link, i) => i ? [", ", link] : [link]);
}

export function makeRow(trigger, more) {
  const link = element("a", shortTime(trigger.recorded_at, true), { href: place("trigger", trigger.id, more), title: trigger.recorded_at });
  const row = element("tr", element("td", link), { id: `row-${trigger.id}` });
  row.append(...[trigger.actor_id, trigger.action, trigger.object, summary(trigger)].map((text) => cell(text)));
  row.trigger = trigger;
  return row;
}

/** Open the trigger with an id, or close it; return whether it is open. */
export async function open(id, more, isStill) {
  id = id.toLowerCase();
  let trigger = document.getElementById(`row-${id}`)?.trigger;
  if (!trigger && ID.test(id)) {
    try {
      [trigger] = (await get("trigger/", { id, total: "no" })).triggers;
    } catch (error) {
      say("notice", `The trigger cannot be read. ${words(error)}`);
      return false;
    }
  }
  if (!isStill()) return false;
  $("detail").hidden = !trigger;
  if (!trigger) {
    if (id) say("notice", "There is no trigger with this id.");
    return false;
  }
  $("detail-title").textContent = `${trigger.action} ${trigger.object}`;
  const found = [["actor", personOf(trigger.actor_id)], ["recorded", trigger.recorded_at], ["id", trigger.id]];
  for (const [name, label] of Object.entries(MAPPINGS)) {
    for (const [key, value] of Object.entries(trigger[name] || {})) {
      found.push([`${label} ${key}`, name === "captured_identities" ? identityLinks(key, value) : shown(value)]);
    }
  }
  $("fields").replaceChildren(...fields(found));
  $("json").textContent = JSON.stringify(trigger, null, 2);
  $("link").href = place("trigger", id, more);
  $("detail").scrollTop = 0;
  return true;
}
