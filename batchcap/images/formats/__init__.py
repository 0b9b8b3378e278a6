"""What the image formats say of themselves: whether a file is whole, and which parts of it are not needed."""
