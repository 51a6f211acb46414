"""How good predictions are, how sure that is, and what layers say of them."""
