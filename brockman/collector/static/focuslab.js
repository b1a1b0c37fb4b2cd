/* Records triggers of a web page: <script async src=".../focuslab.js" data-key="..."></script>
   With data-auto="off" it records no page view. data-endpoint is another URL for triggers. */
(() => {
  const script = document.currentScript, { key, auto, endpoint = "api/v1/trigger/" } = script.dataset;
  const url = new URL(endpoint, script.src), COOKIE = "fl_actor_id", MOST = 200, SLICE = 20;
  let queue = [], timer = 0, busy = false, wait = 1000;
  if (key) url.searchParams.set("key", key);

  const newId = () => Array.from(crypto.getRandomValues(new Uint16Array(8)), (number, i) =>
    (i > 1 && i < 6 ? "-" : "") + (number + 65536).toString(16).slice(1)).join("");

  const setCookie = (value, age) => {
    document.cookie = `${COOKIE}=${value};path=/;max-age=${age};samesite=lax` +
      (location.protocol === "https:" ? ";secure" : "");
  };

  const getActorId = () => {
    const found = document.cookie.match(`(?:^|; )${COOKIE}=([\\da-f]{8}(?:-[\\da-f]{4}){3}-[\\da-f]{12})(?:;|$)`);
    const id = found ? found[1] : newId();
    if (!found) setCookie(id, 315360000);
    return id;
  };

  const recordTrigger = (options = {}) => {
    const given = options.trigger || options;
    queue.push({
      actor_id: getActorId(), ...given, id: newId(), recorded_at: new Date().toISOString(),
      variables: { user_agent: navigator.userAgent, ...given.variables },
    });
    if (queue.length > MOST) queue.shift();
    plan();
  };

  const plan = () => {
    if (!timer && !busy && queue.length) timer = setTimeout(send, wait);
  };

  const send = async () => {
    const some = queue.slice(0, SLICE);
    timer = 0;
    busy = true;
    try {
      const { status } = await fetch(url, { method: "POST", body: JSON.stringify(some), keepalive: true });
      if (status >= 500 || status === 429) throw status;
      if (status >= 400) console.warn("FocusLab: refused with status", status);
      queue = queue.filter((one) => !some.includes(one));
      wait = 1000;
    } catch {
      wait = Math.min(60000, wait * 2);
    }
    busy = false;
    plan();
  };

  const leave = () => {
    while (queue.length && navigator.sendBeacon(url, JSON.stringify(queue.slice(0, SLICE)))) queue.splice(0, SLICE);
  };

  document.addEventListener("visibilitychange", () => document.hidden && leave());
  addEventListener("pagehide", leave);
  const api = { getActorId, recordTrigger, resetTracking: () => setCookie("", 0), getRelease: () => "v2.0" };
  window.FocusLab = Object.assign(async (name, options) => api[name](options), api);
  if (auto !== "off") {
    const { origin, pathname } = location, { title, referrer } = document;
    recordTrigger({ action: "viewed", object: "page", variables: { url: origin + pathname, title, referrer } });
  }
})();
