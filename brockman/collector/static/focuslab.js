/* Records triggers: <script async src=".../focuslab.js" data-key="..."></script> */
(() => {
  const script = document.currentScript, { key, auto, endpoint } = script.dataset;
  const url = new URL(endpoint || new URL("api/v1/trigger/", script.src), script.baseURI);
  let queue = [], timer = 0, busy = false, wait = 1000, actor = "";
  if (key) url.searchParams.set("key", key);

  const newId = () => Array.from(crypto.getRandomValues(new Uint16Array(8)), (n, i) =>
    (i > 1 && i < 6 ? "-" : "") + (n + 65536).toString(16).slice(1)).join("");

  const setCookie = (value, age) => {
    try {
      document.cookie = `fl_actor_id=${value};path=/;max-age=${age};samesite=lax` +
        (location.protocol === "https:" ? ";secure" : "");
    } catch {}
  };

  const getActorId = () => {
    let found;
    try {
      found = document.cookie.match(`(?:^|; )fl_actor_id=([\\da-f]{8}(?:-[\\da-f]{4}){3}-[\\da-f]{12})(?:;|$)`);
    } catch {}
    actor = found ? found[1] : actor || newId();
    if (!found) setCookie(actor, 315360000);
    return actor;
  };

  const recordTrigger = (given = {}) => {
    given = given.trigger || given;
    const text = JSON.stringify({
      actor_id: getActorId(), ...given, id: newId(), recorded_at: new Date().toISOString(),
      variables: { user_agent: navigator.userAgent, ...given.variables },
    });
    queue.push({ text, size: new Blob([text]).size });
    if (queue.length > 200) queue.shift();
    plan();
  };

  const plan = () => {
    if (!timer && !busy && queue.length) timer = setTimeout(send, wait);
  };

  const some = () => {
    let size = 0;
    return queue.slice(0, 20).filter((one, i) => (size += one.size) < 60000 || !i);
  };
  const body = (list) => `[${list.map((one) => one.text)}]`;

  const send = async () => {
    const list = some();
    timer = 0;
    if (!list.length) return;
    busy = true;
    try {
      const answer = await fetch(url, { method: "POST", body: body(list), keepalive: list[0].size < 60000 });
      const { status } = answer;
      if (status >= 500 || status === 429) throw status;
      if (status > 206) console.warn("FocusLab: refused,", status, await answer.text());
      queue = queue.filter((one) => !list.includes(one));
      wait = 1000;
    } catch {
      wait = Math.min(60000, wait * 2);
    }
    busy = false;
    plan();
  };

  const leave = () => {
    queue.sort((a, b) => a.size - b.size);
    for (let list; (list = some()).length && navigator.sendBeacon(url, body(list));) queue.splice(0, list.length);
  };

  document.addEventListener("visibilitychange", () => document.hidden && leave());
  addEventListener("pagehide", leave);
  const api = { getActorId, recordTrigger, resetTracking: () => setCookie(actor = "", 0), getRelease: () => "v2.0" };
  window.FocusLab = Object.assign(async (name, options) => api[name](options), api);
  if (auto !== "off") {
    const { title, referrer } = document, url = location.origin + location.pathname;
    recordTrigger({ action: "viewed", object: "page", variables: { url, title, referrer } });
  }
})();
