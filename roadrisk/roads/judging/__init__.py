"""How good drawn roads are, and what they are compared with."""
