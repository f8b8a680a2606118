"""axe-core in a page: the vendored script, run through the browser's own debugging channel."""

from pathlib import Path
from typing import Any

from playwright.async_api import Page

_SCRIPT = (Path(__file__).parent / "axe_core" / "axe.min.js").read_text("utf-8")
TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


async def run(page: Page) -> dict[str, Any]:
    """Judge the page; frames of strangers' words are not ours and hold no script to ask."""
    await page.evaluate(_SCRIPT)
    report: dict[str, Any] = await page.evaluate(
        "tags => axe.run(document, {runOnly: tags, iframes: false})", list(TAGS)
    )
    return report


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a report: what was judged by which engine, and every finding."""
    return {
        "engine": report["testEngine"],
        "tags": list(TAGS),
        "violations": report["violations"],
        "incomplete": sorted(rule["id"] for rule in report["incomplete"]),
        "passes": sorted(rule["id"] for rule in report["passes"]),
    }
