"""Facts as a network takes them: chosen, made densities, filled, scaled."""
