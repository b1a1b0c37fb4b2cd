/* The groups: a list. */

import { get, words } from "./api.js";
import { $, element, moveByArrows, say, time } from "./dom.js";
import { definitionWords } from "./definition.js";
import { place, register, retryLater, title } from "./router.js";

async function load() {
  try {
    const { groups } = await get("group/");
    $("groups-list").replaceChildren(...groups.map((group) => element("li", [
      element("a", group.name, { href: place("group", group.name), class: "name" }),
      element("p", definitionWords(group), { class: "below" }),
      element("p", ["changed ", time(group.updated_at)], { class: "below" }),
    ], { class: "card" })));
    $("groups-empty").hidden = groups.length > 0;
    say("groups-notice", "");
  } catch (error) {
    say("groups-notice", words(error));
    retryLater(error);
  }
}

moveByArrows($("groups-list"));
register(["groups"], "view-groups", "groups", {
  show() {
    title("Groups");
    load();
  },
});
