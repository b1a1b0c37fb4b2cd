/* What was refused, with the reason, the sender, and what came. */

import { get, words } from "./api.js";
import { $, element, moveByArrows, plural, say, time } from "./dom.js";
import { place, register, replacePlace, title } from "./router.js";
import { summary } from "./trigger.js";

const PAGE = 50, EVERY = 3000;
const state = { reason: "", next: null, newest: null, run: null, timer: 0 };

function senderWords(sender) {
  return sender ? `${sender.host}, process ${sender.pid}` : "an unnamed sender";
}

function makeEntry(one) {
  const { trigger, text } = one, open = element("details");
  const what = trigger ? [trigger.actor_id, trigger.action, trigger.object].filter((part) => typeof part === "string" && part).join(" · ") : text || "";
  open.append(
    element("summary", [
      element("span", one.reason, { class: "reason" }),
      element("span", [time(one.received_at), ` from ${senderWords(one.sender)}`], { class: "below" }),
      element("span", what.slice(0, 300), { class: "below what" }),
    ]),
    element("pre", trigger ? JSON.stringify(trigger, null, 2) : text || "", { tabindex: "0" }),
    element("p", element("a", "Only those with this reason", { href: place("refused", "", { reason: one.reason }) }), { class: "actions" }),
  );
  return element("li", open);
}

async function load(isMore) {
  const run = state.run = {};
  clearTimeout(state.timer);
  try {
    const parameters = { reason: state.reason, order: "newest", limit: PAGE, after: isMore ? state.next : null };
    const found = await get("refused/", parameters);
    if (run !== state.run) return;
    const entries = found.refused.map(makeEntry);
    if (isMore) $("refused-list").append(...entries);
    else $("refused-list").replaceChildren(...entries);
    if (isMore) entries[0]?.querySelector("summary").focus();
    state.next = found.next;
    if (!isMore) state.newest = found.newest;
    $("refused-reasons").replaceChildren(...[...new Set([...$("refused-list").querySelectorAll(".reason")].map((one) => one.textContent))]
      .map((reason) => element("option", [], { value: reason })));
    $("refused-more").hidden = found.next === null;
    const isEmpty = !isMore && !entries.length;
    $("refused-empty").hidden = !isEmpty || state.reason !== "" || found.removed > 0;
    $("refused-again").hidden = !$("refused-list").children.length;
    const kept = found.total === null ? "" : `${plural(found.total, "trigger")} kept`;
    const removed = found.removed ? `${plural(found.removed, "older one")} made room for newer ones` : "";
    say("refused-notice", isEmpty && state.reason ? "Nothing was refused for this reason." : [isEmpty && !removed ? "" : kept, removed].filter(Boolean).join(" · "));
  } catch (error) {
    if (run === state.run) say("refused-notice", words(error));
  }
  if (run === state.run) state.timer = setTimeout(refresh, EVERY);
}

/** Read the list again when something new was refused, and nobody is reading in it. */
async function refresh() {
  const run = state.run;
  const isBusy = document.hidden || $("refused-list").querySelector("[open]") || $("refused-list").children.length > PAGE;
  const newest = isBusy ? state.newest : await get("refused/", { limit: 1, order: "newest" }).then((found) => found.newest, () => state.newest);
  if (run !== state.run) return;
  if (newest === state.newest) state.timer = setTimeout(refresh, EVERY);
  else load(false);
}

let typing = 0;
$("refused-reason").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    state.reason = $("refused-reason").value.trim();
    replacePlace(place("refused", "", { reason: state.reason }));
    load(false);
  }, 200);
});
$("refused-more").addEventListener("click", () => load(true));
moveByArrows($("refused-list"));

register(["refused"], "view-refused", "refused", {
  show(name, value, parameters) {
    title("Refused");
    $("refused-reason").value = state.reason = (parameters.get("reason") || "").trim();
    load(false);
  },
  hide() {
    clearTimeout(state.timer);
    state.run = null;
  },
});
