"""What a network says of pixels becomes a view of a dataset, or masks."""
