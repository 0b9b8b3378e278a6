"""What training and comparison read: images, captions, splits, and ways to write words."""
