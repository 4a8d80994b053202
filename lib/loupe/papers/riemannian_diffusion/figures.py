"""The chapter's figures and tables, drawn from stored results only."""
