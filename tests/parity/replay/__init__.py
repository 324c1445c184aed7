"""Replays cases computed by the original implementation with this project's own code.

A golden file is one case: `weights/*`, `input/*` and `output/*` tensors, and the metadata
`case` with the configuration and the calls. Whatever padding, masks and position ids the
original had are rebuilt here from segment lengths; the models know none of them.
"""
