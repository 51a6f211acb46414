"""What is learned: classes, values and counts, from columns of the tiles."""
