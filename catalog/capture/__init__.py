"""How pictures come in: what is decided about their pixels, where their bytes lie, and who takes them."""
