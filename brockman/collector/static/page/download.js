/* Members of a group as a file. */

import { ENDPOINT, hasKey, request, words } from "./api.js";
import { element, number } from "./dom.js";

const TYPES = { csv: "text/csv;charset=utf-8", ndjson: "application/x-ndjson" };

/** Save a resource under a name, and say how far it is. A link cannot send a key: with one, the answer is read here. */
export async function save(path, format, name, report) {
  if (!hasKey()) {
    element("a", "", { href: `${ENDPOINT}${path}?format=${format}`, download: name }).click();
    report(`The browser saves ${name}`);
    return;
  }
  try {
    report("Downloading …");
    const answer = await request(path, { parameters: { format } });
    const parts = [], reader = answer.body.getReader();
    let size = 0, said = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      /* The browser may keep blobs on disk; arrays it cannot. */
      parts.push(new Blob([value]));
      size += value.length;
      if (size - said > 1e6) report(`Downloading … ${number.format(Math.round(size / 1e6))} MB`);
      if (size - said > 1e6) said = size;
    }
    const url = URL.createObjectURL(new Blob(parts, { type: TYPES[format] }));
    element("a", "", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
    report(`Downloaded ${name}`);
  } catch (error) {
    report(`The download failed. ${words(error)}`);
  }
}
