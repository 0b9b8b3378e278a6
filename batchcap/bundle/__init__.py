"""A model as a folder of plain files: its manifest, the checks that make it safe to open, its words."""
