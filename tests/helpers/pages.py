"""The documentation's pages, and the code blocks in them."""
import re

from paths import ROOT

PAGES = [ROOT / name for name in ("README.md", "README_zh.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md",
                                  "test_tipc/README.md") if (ROOT / name).exists()]
PAGES += sorted((ROOT / "docs").glob("*.md"))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def text_of(name):
    """The text of a page."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name, language):
    """The page's code blocks in a language, in order."""
    return [content for found, content in _BLOCK.findall(text_of(name)) if found == language]


def without_blocks(name):
    """The page's text without its code blocks."""
    return _BLOCK.sub("", text_of(name))
