"""Pictures whose roads are known: a dataset, or a folder of pictures with masks."""
