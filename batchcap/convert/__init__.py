"""From a journal to where captions are looked for: one file a target, and what the targets share."""
