"""The page as a test sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

MARKUP = "<script>document.title = 'broken'</script><img src=x onerror=\"document.title='broken'\">"


def wait_for(page: Page, expression: str) -> None:
    """Wait, in the page, until an expression is true. Playwright's own needs a policy that allows `eval`."""
    is_true: bool = page.evaluate(
        f"""() => new Promise((resolve) => {{
          const end = Date.now() + 20000;
          const look = () => {{
            const isTrue = Boolean({expression});
            if (isTrue || Date.now() > end) resolve(isTrue);
            else setTimeout(look, 10);
          }};
          look();
        }})"""
    )
    assert is_true, (expression, page.inner_text("body"))


def wait_for_text(page: Page, selector: str, text: str) -> None:
    """Wait until an element has a text somewhere in it."""
    wait_for(page, f"document.querySelector({json.dumps(selector)})?.textContent.includes({json.dumps(text)})")


def is_live(page: Page) -> None:
    wait_for(page, "document.getElementById('state').dataset.state === 'live'")


def column(page: Page, table: str, number: int) -> list[str]:
    """Return the texts of a column, the top first."""
    cells = page.locator(f"#{table} tr td:nth-child({number})")
    texts: list[str] = cells.evaluate_all("cells => cells.map((cell) => cell.textContent)")
    return texts


def is_untouched(page: Page) -> bool:
    """Return whether markup in what is shown stayed text."""
    return page.title().endswith(" · FocusLab") and page.locator("main img, main script").count() == 0


def check_look(page: Page) -> None:
    """Check that nothing is wider than the screen, and that text has its contrast (WCAG 2.1, 1.4.3)."""
    for width, scheme in ((390, "dark"), (1280, "light")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(_CONTRAST) >= 4.5


# The least contrast of any text to the colour behind it.
_CONTRAST = """() => {
  const light = (color) => {
    const part = (one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = color.match(/[\\d.]+/g).map((text) => part(text / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = (element) => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if (!/, 0\\)$/.test(color)) return color;
    }
  };
  const texts = [...document.querySelectorAll("body *")].filter((element) => element.checkVisibility() &&
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return Math.min(...texts.map((element) => {
    const [a, b] = [light(getComputedStyle(element).color), light(paper(element))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  }));
}"""
