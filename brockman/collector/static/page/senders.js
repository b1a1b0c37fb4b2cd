/* The processes that send, and whether everything they recorded has arrived. */

import { get, words } from "./api.js";
import { $, element, fields, number, plural, say, time } from "./dom.js";
import { register, title } from "./router.js";

const PAGE = 100, EVERY = 3000;
const state = { after: null, run: null, timer: 0 };

const dropped = (sender) => Object.entries(sender.dropped || {}).filter(([, count]) => count);

/** Return the state of a sender, and words for it. */
function judge(sender) {
  if (sender.missing > 0) return ["bad", `${number.format(sender.missing)} missing`];
  if (sender.rejected > 0) return ["warn", `${number.format(sender.rejected)} refused`];
  if (dropped(sender).length) return ["warn", `${number.format(dropped(sender).reduce((sum, [, count]) => sum + count, 0))} dropped`];
  if (sender.waiting > 0) return ["wait", `${number.format(sender.waiting)} waiting`];
  return ["good", "complete"];
}

function makeEntry(sender) {
  const [status, badge] = judge(sender);
  const counts = ["recorded", "recovered", "arrived", "waiting", "rejected", "refused"].filter((name) => sender[name] || name === "recorded" || name === "arrived");
  const found = counts.map((name) => [name, number.format(sender[name])]);
  if (sender.missing > 0) found.push(["missing", [`${number.format(sender.missing)} since `, time(sender.missing_since)]]);
  for (const [reason, count] of dropped(sender)) found.push([`dropped: ${reason}`, number.format(count)]);
  found.push(["started", time(sender.started)], ["last batch", time(sender.last_seen)]);
  return element("li", [
    element("div", [
      element("h3", `${sender.host || "unnamed host"}, process ${sender.pid}`),
      element("span", badge, { class: `badge ${status}` }),
    ], { class: "bar" }),
    element("p", sender.says.replace(/(\d) (?=\d{3}\b)/g, "$1\u202f"), { class: "words" }),
    element("dl", fields(found).reduce((pairs, one, i, all) => i % 2 ? pairs : [...pairs, element("div", [one, all[i + 1]])], []), { class: "facts" }),
  ], { class: "card" });
}

async function load(isMore) {
  const run = state.run = {};
  clearTimeout(state.timer);
  try {
    const found = await get("senders/", { limit: PAGE, after: isMore ? state.after : null });
    if (run !== state.run) return;
    const entries = found.senders.map(makeEntry);
    if (isMore) $("senders-list").append(...entries);
    else $("senders-list").replaceChildren(...entries);
    state.after = found.next ?? null;
    $("senders-more").hidden = state.after === null;
    $("senders-empty").hidden = $("senders-list").children.length > 0;
    const missing = found.senders.filter((sender) => sender.missing > 0).length;
    const count = $("senders-list").children.length;
    say("senders-notice", count ? `${plural(count, "process", "processes")}${missing ? `, ${number.format(missing)} with missing triggers` : ""}` : "");
  } catch (error) {
    if (run === state.run) say("senders-notice", words(error));
  }
  if (run === state.run) state.timer = setTimeout(refresh, EVERY);
}

function refresh() {
  if (document.hidden || $("senders-list").children.length > PAGE) state.timer = setTimeout(refresh, EVERY);
  else load(false);
}

$("senders-more").addEventListener("click", () => load(true));

register(["senders"], "view-senders", "senders", {
  show() {
    title("Senders");
    load(false);
  },
  hide() {
    clearTimeout(state.timer);
    state.run = null;
  },
});
