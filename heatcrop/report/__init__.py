"""What people look at: contact sheets, curves, the page."""
