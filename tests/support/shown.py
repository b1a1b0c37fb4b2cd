"""All that an error tracker or a log may show of an error."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Iterator


def shown_by(error: BaseException, *, but: str) -> str:
    """Return the texts, attributes, pickles and frames of an error and of those behind it.

    The frames have their locals, as Sentry shows them; without those of the file `but`, which is the caller.
    """
    texts = []
    for each in _chain(error):
        texts += [str(each), repr(each), repr(each.args), repr(vars(each)), repr(pickle.dumps(each))]
        trace = traceback.TracebackException.from_exception(each, capture_locals=True)
        texts += [f"{frame.name} {frame.locals}" for frame in trace.stack if frame.filename != but]
    return "\n".join(texts)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    queue: list[BaseException | None] = [error]
    while queue:
        each = queue.pop()
        if each is not None and each not in seen:
            seen.append(each)
            queue += [each.__cause__, each.__context__]
            yield each
