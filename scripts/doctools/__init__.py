"""The website: pages, and examples that are executed for them."""
