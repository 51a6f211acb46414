"""The training loop: one page of it, and what it stands on."""
