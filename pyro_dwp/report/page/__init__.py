"""One HTML file that shows a run: opened from disk, without a network.

folder.py     what the run's folder says
tables.py     settings, cases and scores
figures.py    learning curves, calibration
volumes.py    scans, masks and uncertainty, small enough to be embedded
write.py      the page, from page.html, page.css and page.js; the viewer is NiiVue, see niivue/README.md
"""

from pyro_dwp.report.page.write import report_run, write_page

__all__ = ["report_run", "write_page"]
