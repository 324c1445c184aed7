"""The four components as files have them: what configs say of each, and how it is named."""
