"""The report of a run: contact sheets, plots, the page."""
