"""Judges pages for everybody: axe-core's rules, and whether a page fits on the screen."""

from pathlib import Path

from npm import install_packages
from playwright.sync_api import Page

HERE = Path(__file__).parent / "playground"
AXE = HERE / "node_modules" / "axe-core" / "axe.min.js"
# All rules in the light, and in the dark what depends on colours.
RUN_AXE = """async () => {
  const root = document.documentElement;
  const all = [];
  for (const [theme, options] of [["light", {}], ["dark", { runOnly: ["color-contrast"] }]]) {
    root.dataset.theme = theme;
    const { violations } = await axe.run(document, { resultTypes: ["violations"], ...options });
    const nodesOf = ({ nodes }) => nodes.map(({ target, failureSummary }) => `${target} ${failureSummary}`);
    all.push(...violations.map((violation) => `${theme}: ${violation.id}: ${nodesOf(violation)}`));
  }
  root.dataset.theme = "light";
  return all;
}"""

FIND_WIDE = """(width) => [...document.querySelectorAll("body *")]
  .filter((element) => element.getBoundingClientRect().right > width + 0.5)
  .map(({ tagName, id, className }) => `${tagName}#${id}.${className}`)"""


def read_axe() -> str:
    """The source of axe-core, which is installed first."""
    install_packages(HERE)
    return AXE.read_text()


class Inspector:
    def __init__(self, page: Page, axe: str) -> None:
        self.page = page
        self.axe = axe
        self.found: list[str] = []

    def look(self, state: str) -> None:
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(self.axe)
        self.found += [f"{state}: {violation}" for violation in self.page.evaluate(RUN_AXE)]
        width = self.page.viewport_size["width"] if self.page.viewport_size else 0
        if self.page.evaluate("document.documentElement.scrollWidth") > width:
            self.found.append(f"{state}: wider than the screen: {self.page.evaluate(FIND_WIDE, width)}")
