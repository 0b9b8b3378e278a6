"""Whether a bundle captions as its original does, and how well."""
