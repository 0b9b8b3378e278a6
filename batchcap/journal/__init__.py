"""The output, which is also the resume state: line formats, what is done, appending; nothing here knows a model."""
