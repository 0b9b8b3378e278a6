"""What the image formats say of themselves: whether a file is whole, and what in it can be done without."""
