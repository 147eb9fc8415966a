"""The site has the project's own folders, so that links between its pages are those that a code host follows."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = ("*.md", "docs/*.md", "docs/images/*", "results/*.md", "results/*.png", "notebooks/*.ipynb")
# What pages link to beside other pages.
FILES = ("karyon/models/*/card.json", "LICENSE")


# Before notebooks are looked for.
@event_priority(100)
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Puts the pages of the whole project in place of those of ``docs``."""
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    for path in sorted(path for pattern in (*PAGES, *FILES) for path in ROOT.glob(pattern)):
        name = path.relative_to(ROOT).as_posix()
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


# After the notebook is a page.
@event_priority(-100)
def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Lets the links of notebooks, which are not looked at as Markdown's are, lead to pages of the site."""
    if not page.file.src_uri.endswith(".ipynb"):
        return output
    return re.sub(r'href="(\.\./[\w/-]+)\.(?:md|ipynb)(#[\w-]+)?"', r'href="\1.html\2"', output)
